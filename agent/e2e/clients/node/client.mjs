// The default chain of the AWS SDK for JavaScript, and S3 with it:
// client.mjs ENDPOINT BUCKET
import { readFileSync } from "node:fs";
import { GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { fromNodeProviderChain } from "@aws-sdk/credential-providers";

const [endpoint, Bucket] = process.argv.slice(2);
const credentials = fromNodeProviderChain();
const { accessKeyId } = await credentials();

// The client finds its own credentials, as every program's does.
const s3 = new S3Client({ endpoint, forcePathStyle: true });
const Key = "javascript", Body = "written by javascript";
await s3.send(new PutObjectCommand({ Bucket, Key, Body }));
const object = await s3.send(new GetObjectCommand({ Bucket, Key }));
if ((await object.Body.transformToString()) !== Body) throw new Error("the object is something else");
if ((await s3.config.credentials()).accessKeyId !== accessKeyId) throw new Error("two chains, two keys");

const { version } = JSON.parse(readFileSync(new URL("node_modules/@aws-sdk/client-s3/package.json", import.meta.url)));
console.log(JSON.stringify({ client: "aws-sdk-js-v3", version, accessKeyId }));
