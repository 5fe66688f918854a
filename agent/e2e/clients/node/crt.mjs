// The default chain of the AWS Common Runtime, which is C, and S3 with it:
// crt.mjs ENDPOINT BUCKET
import { readFileSync } from "node:fs";
import crt from "aws-crt";

const [endpoint, bucket] = process.argv.slice(2);
const { auth, http } = crt;
const provider = auth.AwsCredentialsProvider.newDefault();
async function s3(method, body) {
  const request = new http.HttpRequest(method, `/${bucket}/crt`, new http.HttpHeaders([["host", new URL(endpoint).host]]));
  const signed = await auth.aws_sign_request(request, {
    algorithm: auth.AwsSigningAlgorithm.SigV4, signature_type: auth.AwsSignatureType.HttpRequestViaHeaders,
    provider, region: "us-east-1", service: "s3",
    signed_body_value: "UNSIGNED-PAYLOAD", signed_body_header: auth.AwsSignedBodyHeaderType.XAmzContentSha256,
  });
  const response = await fetch(endpoint + request.path, { method, body, headers: [...signed.headers].filter(([name]) => name !== "host") });
  if (!response.ok) throw new Error(`${method} was answered with ${response.status}`);
  return response.text();
}
const body = "written by the CRT";
await s3("PUT", body);
if ((await s3("GET")) !== body) throw new Error("the object is something else");
const { version } = JSON.parse(readFileSync(new URL("node_modules/aws-crt/package.json", import.meta.url)));
console.log(JSON.stringify({ client: "aws-crt", version, accessKeyId: "" }));
process.exit(0); // its event loops go on
