// What minio-js fetches: minio.mjs. It goes no further: minio-js 8.0.7 reads
// AccessKeyID where EC2 says AccessKeyId, and so has no key to sign with.
import { readFileSync } from "node:fs";

const inside = (path) => new URL(`node_modules/minio/${path}`, import.meta.url);
const { IamAwsProvider } = await import(inside("dist/esm/IamAwsProvider.mjs"));
const credentials = await new IamAwsProvider({}).getCredentials();
if (credentials.getSecretKey().length !== 40) throw new Error("no secret key was fetched");
const { version } = JSON.parse(readFileSync(inside("package.json")));
console.log(JSON.stringify({ client: "minio-js", version, accessKeyId: "" }));
