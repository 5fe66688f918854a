// The default chain of the AWS SDK for Rust, and S3 with it, as LanceDB has
// them built in: client.mjs ENDPOINT BUCKET
import { readFileSync } from "node:fs";
import * as lancedb from "@lancedb/lancedb";

const [awsEndpoint, bucket] = process.argv.slice(2);
const storageOptions = { awsEndpoint, allowHttp: "true", awsRegion: "us-east-1" };
const db = await lancedb.connect(`s3://${bucket}/rust`, { storageOptions });
await db.createTable("t", [{ id: 1, vector: [1, 2] }], { mode: "overwrite" });
const names = await db.tableNames();
if (names.join() !== "t") throw new Error(`the tables are ${names}`);
const { version } = JSON.parse(readFileSync(new URL("node_modules/@lancedb/lancedb/package.json", import.meta.url)));
console.log(JSON.stringify({ client: "aws-sdk-rust in lancedb", version, accessKeyId: "" }));
