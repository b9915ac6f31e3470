"""Real clients against a real server: tritonclient over HTTP and gRPC, kserve's inference clients, and curl. Every answer
must have the logits of `predict`, to the bit.

    clients.py INCEPTION_BINARY PICTURE...

needs `pip install tritonclient[all] kserve` and curl. Prints a line for each way to ask.
"""

import asyncio
import json
import signal
import subprocess
import sys
import tempfile

import numpy as np

BINARY, PICTURES = sys.argv[1], sys.argv[2:]
MODEL = "GoogLeNet"
FLAGS = ["--random-weights", "--seed", "5"]


def predicted():
    """predict's logits, and the images that the network gets, by our own preprocessing as `--model` of Python's."""
    command = [BINARY, "predict", "--model", MODEL, *FLAGS, "--json", "--with-logits", "--image", *PICTURES]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [np.array(json.loads(line)["logits"], np.float32) for line in lines]


def start(*more):
    command = [BINARY, "serve", "--model", MODEL, *FLAGS, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--log", "json", *more]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        if line.startswith("{") and json.loads(line).get("message") == "ready":
            line = json.loads(line)
            return server, line["http"], line["grpc"]
    raise SystemExit("the server did not start")


def same(what, found, wanted):
    found = np.asarray(found, np.float32).reshape(-1)
    equal = found.shape == wanted.shape and (found.view(np.uint32) == wanted.view(np.uint32)).all()
    print(f"{'equal  ' if equal else 'UNEQUAL'}  {what}")
    if not equal:
        raise SystemExit(1)


def image():
    return np.random.default_rng(1).normal(size=(2, 3, 224, 224)).astype(np.float32)


def triton(module, address, what, wanted, logits_of_image):
    client = module.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(MODEL)
    metadata = client.get_model_metadata(MODEL)
    metadata = metadata if isinstance(metadata, dict) else {"inputs": [{"name": metadata.inputs[0].name}]}
    assert metadata["inputs"][0]["name"] == "input"
    client.get_model_config(MODEL)
    client.get_model_repository_index()
    encoded = [open(path, "rb").read() for path in PICTURES]
    strings = np.array(encoded, dtype=object).reshape(-1, 1)
    tensor = module.InferInput("input", strings.shape, "BYTES")
    tensor.set_data_from_numpy(strings)
    same(f"{what}, BYTES of {len(encoded)} pictures", client.infer(MODEL, [tensor]).as_numpy("logits"), np.concatenate(wanted))
    pixels = image()
    for binary in [True, False] if "HTTP" in what else [True]:
        tensor = module.InferInput("input", pixels.shape, "FP32")
        if "HTTP" in what:
            tensor.set_data_from_numpy(pixels, binary_data=binary)
            output = module.InferRequestedOutput("logits", binary_data=binary)
        else:
            tensor.set_data_from_numpy(pixels)
            output = module.InferRequestedOutput("logits")
        found = client.infer(MODEL, [tensor], outputs=[output]).as_numpy("logits")
        if logits_of_image is None:
            logits_of_image = found.reshape(-1)
        same(f"{what}, FP32 {'binary' if binary else 'JSON'}", found, logits_of_image)
    output = module.InferRequestedOutput("logits", class_count=3)
    lines = client.infer(MODEL, [tensor], outputs=[output]).as_numpy("logits")
    assert lines.shape == (2, 3) and lines[0][0].count(b":") == 2, lines
    print(f"read     {what}, classification: {lines[0][0].decode()}")
    try:
        client.infer("none", [tensor])
        raise SystemExit("an unknown model was answered")
    except module.InferenceServerException if hasattr(module, "InferenceServerException") else Exception as error:
        print(f"read     {what}, error: {error}")
    return logits_of_image


async def kserve_clients(http, grpc, logits_of_image):
    from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

    pixels = image()
    request = InferRequest(model_name=MODEL, infer_inputs=[InferInput("input", list(pixels.shape), "FP32")])
    request.inputs[0].set_data_from_numpy(pixels, binary_data=False)
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_ready(f"http://{http}")
    answer = await client.infer(f"http://{http}", request, model_name=MODEL)
    same("kserve HTTP, FP32 JSON", answer.outputs[0].as_numpy(), logits_of_image)
    request.inputs[0].set_data_from_numpy(pixels, binary_data=True)
    client = InferenceGRPCClient(grpc)
    assert await client.is_server_ready()
    answer = await client.infer(request)
    same("kserve gRPC, FP32", answer.outputs[0].as_numpy(), logits_of_image)


def curl(http, wanted):
    for path, logits in zip(PICTURES, wanted):
        address = f"http://{http}/v1/models/{MODEL}/classify?logits=true"
        command = ["curl", "-sS", "--fail", "--data-binary", f"@{path}", address]
        answer = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        same("curl, a picture", answer["logits"], logits)
    forms = [argument for path in PICTURES for argument in ["-F", f"file=@{path}"]]
    lines = subprocess.run(["curl", "-sS", "--fail", *forms, address], check=True, capture_output=True, text=True).stdout
    found = [json.loads(line)["logits"] for line in lines.splitlines()]
    same(f"curl, {len(PICTURES)} pictures in a form", np.concatenate(found), np.concatenate(wanted))


def keys_and_tls():
    with tempfile.TemporaryDirectory() as folder:
        open(f"{folder}/keys", "w").write("a-key-of-the-clients\n")
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
                "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"]
        subprocess.run(made, check=True, capture_output=True)
        more = ["--tls-cert", f"{folder}/cert.pem", "--tls-key", f"{folder}/key.pem", "--api-key-file", f"{folder}/keys"]
        server, http, grpc = start(*more)
        try:
            import tritonclient.grpc

            address = f"https://{http}/v2/models/{MODEL}"
            command = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", f"{folder}/cert.pem", address]
            status = lambda *extra: subprocess.run([*command, *extra], check=True, capture_output=True, text=True).stdout
            assert status() == "401" and status("-H", "Authorization: Bearer a-key-of-the-clients") == "200"
            print("read     curl, TLS with a key and without")
            options = tritonclient.grpc.InferenceServerClient(grpc, ssl=True, root_certificates=f"{folder}/cert.pem")
            headers = {"authorization": "Bearer a-key-of-the-clients"}
            assert options.is_server_live() and options.get_model_metadata(MODEL, headers=headers).name == MODEL
            print("read     tritonclient gRPC, TLS with a key")
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0


def main():
    import tritonclient.grpc
    import tritonclient.http

    wanted = predicted()
    server, http, grpc = start()
    try:
        logits = triton(tritonclient.http, http, "tritonclient HTTP", wanted, None)
        triton(tritonclient.grpc, grpc, "tritonclient gRPC", wanted, logits)
        # In a process of its own: its messages have the names of tritonclient's.
        with tempfile.NamedTemporaryFile(suffix=".npy") as file:
            np.save(file.name, logits)
            subprocess.run([sys.executable, __file__, "--kserve", http, grpc, file.name], check=True)
        curl(http, wanted)
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0, "it did not stop in good order"
    keys_and_tls()


if __name__ == "__main__":
    if sys.argv[1] == "--kserve":
        asyncio.run(kserve_clients(sys.argv[2], sys.argv[3], np.load(sys.argv[4])))
    else:
        main()
