// The default chain of the AWS SDK for JavaScript, version 2, and S3 with it:
// v2.mjs ENDPOINT BUCKET
import AWS from "aws-sdk";

const [endpoint, Bucket] = process.argv.slice(2);
const s3 = new AWS.S3({ endpoint, region: process.env.AWS_REGION, s3ForcePathStyle: true });
const Key = "javascript-v2", Body = "written by javascript";
await s3.putObject({ Bucket, Key, Body }).promise();
const object = await s3.getObject({ Bucket, Key }).promise();
if (object.Body.toString() !== Body) throw new Error("the object is something else");
const { accessKeyId } = s3.config.credentials;
console.log(JSON.stringify({ client: "aws-sdk-js-v2", version: AWS.VERSION, accessKeyId }));
