# Ruby's SDK in a program that runs for weeks: loop.rb ENDPOINT BUCKET
# It reads an object at each line that it gets, and says how each went. Before
# each turn, the SDK's idea of when its credentials end is put to now.
require "aws-sdk-s3"
require "json"

endpoint, bucket = ARGV
$stdout.sync = true
puts({ client: "aws-sdk-ruby", version: Aws::CORE_GEM_VERSION }.to_json)
s3 = nil
while $stdin.gets
  error = ""
  begin
    s3&.config&.credentials&.instance_variable_set(:@expiration, Time.now)
    s3 ||= Aws::S3::Client.new(endpoint: endpoint, force_path_style: true, retry_limit: 0)
    s3.get_object(bucket: bucket, key: "seed").body.read
  rescue StandardError => e
    error = "#{e.class}: #{e.message}"
    s3 = nil if s3 && s3.config.credentials.nil?
  end
  puts({ error: error }.to_json)
end
