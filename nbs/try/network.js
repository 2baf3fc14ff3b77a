// The network in the page: onnxruntime's WebAssembly, one thread, so that any static host will do.

import { here, Refusal } from "./model.js";
import * as ort from "./ort.wasm.min.mjs";

export async function openNetwork(size, positions) {
  if (typeof WebAssembly !== "object")
    throw new Refusal("This browser does not run WebAssembly, which the network needs: " +
                      "use another browser, or turn it on in this one's settings.");
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = here("./");
  const session = await ort.InferenceSession.create(here("network.onnx"));
  let last = Promise.resolve();                           // one run at a time
  const n = positions ** 2;
  const tensor = (data, ...dims) => new ort.Tensor("float32", data, dims);
  async function run(sketch, references, { mask, temperature = 1, weight = 1 } = {}) {
    const k = references.length, all = new Float32Array(k * 3 * size * size);
    references.forEach((r, i) => all.set(r, i * 3 * size * size));
    const { fake, logits } = await session.run({
      sketch: tensor(sketch, 1, 1, size, size), references: tensor(all, k, 3, size, size),
      mask: tensor(mask ?? new Float32Array(n * k * n), 1, n, k * n),
      temperature: tensor([temperature], 1), weight: tensor([weight], 1) });
    return { fake: fake.data, logits: logits.data };
  }
  return (...call) => last = last.catch(() => {}).then(() => run(...call));
}
