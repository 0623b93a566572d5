"""An S3 server on loopback with one empty bucket: PORT BUCKET [RADOSGW FOLDER]. Says `ready` and stays until it is
killed. It is moto, or the real one that the script RADOSGW starts in FOLDER."""

import subprocess
import sys
import threading

import boto3

port, bucket = int(sys.argv[1]), sys.argv[2]
key = secret = "test"
if len(sys.argv) > 3:
    script, folder = sys.argv[3:]
    # It ends when its input does: with this process, however that ends.
    server = subprocess.Popen(
        [script, folder, str(port), key, secret], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    if server.stdout.readline().strip() != "ready":
        sys.exit(open(f"{folder}/output.log").read())
else:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
s3 = boto3.client(
    "s3",
    endpoint_url=f"http://127.0.0.1:{port}",
    region_name="us-east-1",
    aws_access_key_id=key,
    aws_secret_access_key=secret,
)
s3.create_bucket(Bucket=bucket)
print("ready", flush=True)
threading.Event().wait()
