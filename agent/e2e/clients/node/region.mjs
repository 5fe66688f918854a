// Where the AWS SDK for JavaScript thinks that it runs.
import { readFileSync } from "node:fs";
import { S3Client } from "@aws-sdk/client-s3";

const region = await new S3Client().config.region();
const { version } = JSON.parse(readFileSync(new URL("node_modules/@aws-sdk/client-s3/package.json", import.meta.url)));
console.log(JSON.stringify({ client: "aws-sdk-js-v3", version, region }));
