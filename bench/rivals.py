"""Python runtimes as processes of `cargo xtask rivals`.

usage: rivals.py RUNTIME THREADS PRECISION DEVICE     RUNTIME: onnxruntime, openvino, torch, torch-compile
                                                      DEVICE: cpu, or cuda for torch and torch-compile

Reads requests a line each and answers each with a line, as `bench/tract` does:

  load FILE BATCH       the ONNX model, readied for that batch           ready VERSION
  infer INPUT OUTPUT    files of little-endian floats, images to logits  done
  time RUNS             runs on the images of the last `infer`           milliseconds of each
  anything that fails                                                    error REASON
"""
import sys
import time

import numpy as np


class OnnxRuntime:
    def __init__(self, threads, precision, device):
        assert device == "cpu", "on the CPU only"
        import onnxruntime as ort

        ort.set_default_logger_severity(3)
        self.ort, self.threads, self.version = ort, threads, ort.__version__

    def load(self, file, batch):
        options = self.ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        self.session = self.ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        node = self.session.get_inputs()[0]
        self.name = node.name
        return [batch, *node.shape[1:]]

    def run(self):
        return self.session.run(None, {self.name: self.images})[0]


class OpenVino:
    def __init__(self, threads, precision, device):
        assert device == "cpu", "on the CPU only"
        import openvino as ov

        self.ov, self.core, self.version = ov, ov.Core(), ov.__version__.split("-")[0]
        self.config = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": str(threads),
        }

    def load(self, file, batch):
        model = self.core.read_model(file)
        shape = [batch, *(d.get_length() for d in list(model.input().partial_shape)[1:])]
        model.reshape(shape)
        self.request = self.core.compile_model(model, "CPU", self.config).create_infer_request()
        return shape

    def run(self):
        # Without copies of the images and the logits, which would be counted against it.
        return self.request.infer([self.images], share_inputs=True, share_outputs=True)[0]


class Torch:
    """PyTorch has no reader of ONNX: the graph is rebuilt of its modules. Norms are folded into convolutions, and memory
    is channels-last, as its documentation advises for inference. Times are host to host on either device."""

    def __init__(self, threads, precision, device, compiled=False):
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        torch.zeros(1, device=device)  # Fails here where there is no such device.
        # Algorithms are tried out, as ours are, and f32 is f32.
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self.device = device
        self.torch, self.compiled, self.version = torch, compiled, torch.__version__.split("+")[0]
        self.dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[precision]

    def module(self, file):
        import onnx
        from onnx import numpy_helper

        torch = self.torch
        nn, graph = torch.nn, torch.fx.Graph()
        model = onnx.load(file).graph
        weights = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.initializer}
        modules, values = nn.Module(), {model.input[0].name: graph.placeholder("images")}

        def symmetric(pads):
            assert pads[: len(pads) // 2] == pads[len(pads) // 2 :], pads
            return pads[: len(pads) // 2]

        def layer(node, a):
            tensors = [weights[name] for name in node.input if name in weights]
            if node.op_type == "Conv":
                out, grouped, *kernel = tensors[0].shape
                made = nn.Conv2d(grouped * a["group"], out, kernel, a["strides"], symmetric(a["pads"]),
                                 a["dilations"], a["group"], bias=len(tensors) > 1)
                made.weight.data = tensors[0]
                if len(tensors) > 1:
                    made.bias.data = tensors[1]
            elif node.op_type == "BatchNormalization":
                made = nn.BatchNorm2d(len(tensors[0]), a["epsilon"])
                made.weight.data, made.bias.data, made.running_mean, made.running_var = tensors
            elif node.op_type == "Relu":
                made = nn.ReLU(inplace=True)
            elif node.op_type == "MaxPool":
                made = nn.MaxPool2d(a["kernel_shape"], a["strides"], symmetric(a["pads"]), ceil_mode=bool(a["ceil_mode"]))
            elif node.op_type == "AveragePool":
                made = nn.AvgPool2d(a["kernel_shape"], a["strides"], symmetric(a["pads"]),
                                    count_include_pad=bool(a["count_include_pad"]))
            elif node.op_type == "GlobalAveragePool":
                made = nn.AdaptiveAvgPool2d(1)
            elif node.op_type == "Flatten":
                made = nn.Flatten()
            elif node.op_type == "Gemm":
                # Stored as `[inputs, outputs]`, PyTorch's are `[outputs, inputs]`.
                weight = tensors[0] if a.get("transB") else tensors[0].t().contiguous()
                made = nn.Linear(weight.shape[1], weight.shape[0])
                made.weight.data, made.bias.data = weight, tensors[1]
            else:
                raise ValueError(f"no module for {node.op_type}")
            return made

        readers = {}
        for node in model.node:
            for name in node.input:
                readers[name] = readers.get(name, 0) + 1
        for i, node in enumerate(model.node):
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            inputs = [values[name] for name in node.input if name in values]
            if node.op_type == "Concat":
                value = graph.call_function(torch.cat, (inputs, 1))
            elif node.op_type == "Add":
                value = graph.call_function(torch.add, tuple(inputs))
            elif node.op_type == "Mul":
                value = graph.call_function(torch.mul, (inputs[0], float(weights[node.input[1]])))
            else:
                made = layer(node, attributes)
                if node.op_type == "Relu":
                    # In place only where nobody else reads what it overwrites.
                    made.inplace = readers[node.input[0]] == 1
                modules.add_module(f"layer{i}", made)
                value = graph.call_module(f"layer{i}", tuple(inputs))
            values[node.output[0]] = value
        graph.output(values[model.output[0].name])
        module = torch.fx.GraphModule(modules, graph).eval()
        shape = [d.dim_value for d in model.input[0].type.tensor_type.shape.dim][1:]
        return torch.fx.experimental.optimization.fuse(module), shape

    def load(self, file, batch):
        torch = self.torch
        import torch.fx.experimental.optimization

        module, shape = self.module(file)
        self.model = module.to(device=self.device, dtype=self.dtype, memory_format=torch.channels_last)
        if self.compiled:
            import torch._inductor.config as inductor

            inductor.freezing = True
            # On a GPU one launch for all of a run.
            mode = "reduce-overhead" if self.device == "cuda" else "default"
            self.model = torch.compile(self.model, dynamic=False, mode=mode)
        return [batch, *shape]

    def run(self):
        torch = self.torch
        with torch.inference_mode():
            images = torch.from_numpy(self.images).to(self.device)
            images = images.to(dtype=self.dtype, memory_format=torch.channels_last)
            return self.model(images).float().cpu().numpy()


class TorchCompile(Torch):
    def __init__(self, threads, precision, device):
        super().__init__(threads, precision, device, compiled=True)


RUNTIMES = {"onnxruntime": OnnxRuntime, "openvino": OpenVino, "torch": Torch, "torch-compile": TorchCompile}


def answer(runtime, verb, arguments):
    if verb == "load":
        file, batch = arguments
        runtime.images = np.zeros(runtime.load(file, int(batch)), np.float32)
        return f"ready {runtime.version}"
    if verb == "infer":
        source, target = arguments
        runtime.images = np.fromfile(source, np.float32).reshape(runtime.images.shape)
        np.ascontiguousarray(runtime.run(), np.float32).tofile(target)
        return "done"
    if verb == "time":
        times = []
        for _ in range(int(arguments[0])):
            start = time.perf_counter()
            runtime.run()
            times.append(f"{(time.perf_counter() - start) * 1e3:.4f}")
        return " ".join(times)
    raise ValueError(f"no such request: {verb}")


def main():
    # What libraries print is none of the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    name, threads, precision, device = sys.argv[1:]
    runtime = RUNTIMES[name](int(threads), precision, device)
    for line in sys.stdin:
        verb, *arguments = line.split()
        try:
            text = answer(runtime, verb, arguments)
        except Exception as error:
            text = f"error {type(error).__name__}: {error}".replace("\n", " ")
        print(text, file=answers, flush=True)


if __name__ == "__main__":
    main()
