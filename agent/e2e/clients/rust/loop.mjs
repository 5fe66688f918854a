// The AWS SDK for Rust, as LanceDB has it built in, in a program that runs for
// weeks: loop.mjs ENDPOINT BUCKET. It lists its tables at each line that it
// gets, and says how each went.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import * as lancedb from "@lancedb/lancedb";

const [awsEndpoint, bucket] = process.argv.slice(2);
const { version } = JSON.parse(readFileSync(new URL("node_modules/@lancedb/lancedb/package.json", import.meta.url)));
const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");
say({ client: "aws-sdk-rust in lancedb", version });
let db;
for await (const _ of createInterface({ input: process.stdin })) {
  let error = "";
  try {
    db ??= await lancedb.connect(`s3://${bucket}/rust`, {
      storageOptions: { awsEndpoint, allowHttp: "true", awsRegion: "us-east-1", client_max_retries: "0" },
    });
    await db.tableNames();
  } catch (e) {
    error = String(e);
  }
  say({ error });
}
