"""The other servers of the comparison: the same network in ONNX Runtime, behind FastAPI or LitServe, with the same
preprocessing (OpenCV: short side, centre crop, mean and deviation) and the same answer.

    rivals.py fastapi|litserve MODEL.onnx PORT SHORT CROP [--pixels]

Both use what their makers recommend for a CPU: ONNX Runtime with all cores within an operation, one process, uvloop and
httptools; LitServe with its batching. FastAPI decodes in its thread pool, beside the network.
"""

import json
import sys

import cv2
import numpy as np
import onnxruntime

KIND, MODEL, PORT, SHORT, CROP = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
SCALE, SHIFT = 1 / (255 * STD), -MEAN / STD


def session(threads=0):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])


def pixels(data):
    """The image as the network takes it, [3, CROP, CROP]: PaddleClas's resizing and cropping."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    height, width = image.shape[:2]
    factor = SHORT / min(height, width)
    image = cv2.resize(image, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_LINEAR)
    top, left = (image.shape[0] - CROP) // 2, (image.shape[1] - CROP) // 2
    image = image[top : top + CROP, left : left + CROP, ::-1]
    return np.ascontiguousarray((image * SCALE + SHIFT).transpose(2, 0, 1), np.float32)


def top(logits, k=5):
    share = np.exp(logits - logits.max())
    share /= share.sum()
    best = np.argpartition(-logits, k)[:k]
    best = best[np.argsort(-logits[best])]
    return {"top": [{"index": int(i), "probability": float(share[i])} for i in best]}


def fastapi():
    import uvicorn
    from fastapi import FastAPI, Request, Response
    from starlette.concurrency import run_in_threadpool

    app = FastAPI()
    network = session()
    name = network.get_inputs()[0].name

    def answer(data):
        # Both let go of Python's lock.
        return json.dumps(top(network.run(None, {name: pixels(data)[None]})[0][0]))

    @app.post("/classify")
    async def classify(request: Request):
        data = await request.body()
        return Response(await run_in_threadpool(answer, data), media_type="application/json")

    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning", loop="uvloop", http="httptools")


def litserve():
    import litserve

    api = Api(max_batch_size=4, batch_timeout=0.002, api_path="/classify")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=PORT, generate_client_file=False, log_level="warning")


if KIND == "litserve":
    from fastapi import Request
    from litserve import LitAPI

    class Api(LitAPI):
        """A network behind LitServe, which takes pictures as its documentation has them, in a form."""

        def setup(self, device):
            self.network = session()
            self.name = self.network.get_inputs()[0].name

        def decode_request(self, request: Request):
            return pixels(request["file"].file.read())

        def batch(self, inputs):
            return np.stack(inputs)

        def predict(self, images):
            return self.network.run(None, {self.name: images})[0]

        def unbatch(self, output):
            return list(output)

        def encode_response(self, output):
            return top(output)


if __name__ == "__main__":
    if "--pixels" in sys.argv:
        # For a comparison of the preprocessing.
        pixels(sys.stdin.buffer.read()).tofile(sys.stdout.buffer)
    else:
        {"fastapi": fastapi, "litserve": litserve}[KIND]()
