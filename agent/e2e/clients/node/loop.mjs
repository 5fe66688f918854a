// An SDK in a program that runs for weeks: loop.mjs CLIENT ENDPOINT BUCKET
// It reads an object at each line that it gets, and says how each went.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const [client, endpoint, Bucket] = process.argv.slice(2);
const Key = "seed";
const inside = (path) => new URL(`node_modules/${path}`, import.meta.url);
const version = (module) => JSON.parse(readFileSync(inside(`${module}/package.json`))).version;

const clients = {
  "aws-sdk-js-v3": async () => {
    const { GetObjectCommand, S3Client } = await import("@aws-sdk/client-s3");
    const s3 = new S3Client({ endpoint, forcePathStyle: true, maxAttempts: 1 });
    // It fetches anew, more than once a request, what has less than five minutes
    // to live. These live long, and are told to be fetched anew.
    const turn = async () => {
      await s3.config.credentials({ forceRefresh: true });
      await (await s3.send(new GetObjectCommand({ Bucket, Key }))).Body.transformToString();
    };
    return [version("@aws-sdk/client-s3"), turn];
  },
  "aws-sdk-js-v2": async () => {
    const { default: AWS } = await import("aws-sdk");
    const s3 = new AWS.S3({ endpoint, region: process.env.AWS_REGION, s3ForcePathStyle: true, maxRetries: 0 });
    // Of credentials with less than 15 s to live it is at a loss for words: it
    // calls a logger that is not there, and never answers. So they live long,
    // and before each turn its idea of their end is put to now.
    const turn = () => {
      if (s3.config.credentials) s3.config.credentials.expireTime = new Date();
      return s3.getObject({ Bucket, Key }).promise();
    };
    return [AWS.VERSION, turn];
  },
  "minio-js": async () => { // no further than the fetch: see minio.mjs
    const { IamAwsProvider } = await import(inside("minio/dist/esm/IamAwsProvider.mjs"));
    const provider = new IamAwsProvider({});
    return [version("minio"), () => provider.getCredentials()];
  },
  "aws-crt": async () => {
    const { default: { auth, http } } = await import("aws-crt");
    const provider = auth.AwsCredentialsProvider.newDefault();
    const turn = async () => {
      const request = new http.HttpRequest("GET", `/${Bucket}/${Key}`, new http.HttpHeaders([["host", new URL(endpoint).host]]));
      const signed = await auth.aws_sign_request(request, {
        algorithm: auth.AwsSigningAlgorithm.SigV4, signature_type: auth.AwsSignatureType.HttpRequestViaHeaders,
        provider, region: "us-east-1", service: "s3",
        signed_body_value: "UNSIGNED-PAYLOAD", signed_body_header: auth.AwsSignedBodyHeaderType.XAmzContentSha256,
      });
      const response = await fetch(endpoint + request.path, { headers: [...signed.headers].filter(([name]) => name !== "host") });
      if (!response.ok) throw new Error(`answered with ${response.status}`);
    };
    return [version("aws-crt"), turn];
  },
};

const [is, turn] = await clients[client]();
const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");
say({ client, version: is });
for await (const _ of createInterface({ input: process.stdin })) {
  let error = "";
  try {
    await turn();
  } catch (e) {
    error = String(e) || "an error without words";
  }
  say({ error });
}
process.exit(0); // the event loops of C go on
