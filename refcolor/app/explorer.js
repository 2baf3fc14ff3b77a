// The explorer's page: two widgets of anywidget, no build step. explorer.py sends the data,
// this draws them.
//
// While you hover, nobody asks Python: the page gets the logits once for each pair, 256 × 256
// numbers, and computes row, column, mixture and entropy itself. So the answer comes at once,
// even over a slow line. tests/test_browser.py compares its numbers with Python's.

// --- numbers, as refcolor.attention has them

export function attention(logits, n, temperature) {        // Eq. 3, row by row
  const alpha = new Float32Array(n * n);
  for (let i = 0; i < n * n; i += n) {
    let top = -Infinity, sum = 0;
    for (let j = 0; j < n; j++) top = Math.max(top, logits[i + j]);
    for (let j = 0; j < n; j++) sum += alpha[i + j] = Math.exp((logits[i + j] - top) / temperature);
    for (let j = 0; j < n; j++) alpha[i + j] /= sum;
  }
  return alpha;
}
export const row = (alpha, n, i) => alpha.subarray(i * n, i * n + n);
export const column = (alpha, n, j) => Float32Array.from({ length: n }, (_, i) => alpha[i * n + j]);
export const bits = (row) => row.reduce((sum, a) => a > 0 ? sum - a * Math.log2(a) : sum, 0);
export function strongest(weights, k) {                   // [[cell, weight], …], largest first
  return Array.from(weights, (w, cell) => [cell, w])
    .sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, k);
}
export function mixture(row, colours) {                   // Σ_j α_ij r_j
  const sum = [0, 0, 0];
  row.forEach((a, j) => { for (let c = 0; c < 3; c++) sum[c] += a * colours[3 * j + c]; });
  return sum;
}

// --- heat map and lines, as `heat_map` and `explorer_figure` draw them; the colours come from
// Python, so that there is one table of them

function paint(canvas, weights, side, heat) {
  const top = Math.max(...weights);
  canvas.width = canvas.height = side;                    // one pixel of the canvas per cell
  const context = canvas.getContext("2d"), layer = context.createImageData(side, side);
  weights.forEach((w, i) => {
    const value = Math.min(1, w / Math.max(top, 1e-9));
    const opacity = Math.floor(255 * (0.25 + 0.6 * Math.sqrt(value)) + 0.5);
    layer.data.set([...heat[Math.floor(value * 63 + 0.5)], opacity], 4 * i);
  });
  context.putImageData(layer, 0, 0);
}
function shape(name, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}
function rimmed(svg, name, width, attributes) {     // white with a dark rim: seen on any colour
  for (const [extra, stroke] of [[1.6, "black"], [0, "white"]])
    svg.append(shape(name, { ...attributes, stroke, fill: "none", "stroke-width": width + extra }));
}

// --- words: what the picture shows is also said, for people who do not see it, and for all who
// want the numbers

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);                               // strings become text, never markup
  return node;
}
const place = (cell, side) => `row ${Math.floor(cell / side) + 1}, column ${cell % side + 1}`;
const percent = (w) => `${(100 * w).toFixed(w < 0.1 ? 1 : 0)} %`;
function swatch(name, colour) {
  const rgb = colour.map((c) => Math.max(0, Math.min(255, Math.round(c))));
  const hex = "#" + rgb.map((c) => c.toString(16).padStart(2, "0")).join("");
  const chip = make("span", { class: "rc-chip", style: `background:${hex}` });
  return make("span", { class: "rc-swatch", "data-name": name, "data-rgb": colour.join(" ") },
              chip, `${name} `, make("code", {}, hex));
}
function matchList(matches, side) {
  return make("ol", { class: "rc-matches" }, ...matches.map(([cell, w]) =>
    make("li", { "data-cell": cell, "data-weight": w }, `${place(cell, side)}: ${percent(w)}`)));
}

// --- the page: up to four pictures, the lines over them, the words below. Sketch, output and
// true answer share their positions, so pointing at a wrong colour in the *output* works, too.

const PANELS = { sketch: "sketch", reference: "reference", fake: "output", truth: "true answer" };
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const sideOf = (panel) => panel === "reference" ? "reference" : "sketch";
const clamp = (v, side) => Math.max(0, Math.min(side - 1, v));
const floats = (b) => new Float32Array(b.buffer.slice(b.byteOffset, b.byteOffset + b.byteLength));

function panel(name, title) {
  const image = make("img", { draggable: "false" });
  const heat = make("canvas", { "aria-hidden": "true" });
  const area = make("div", { class: "rc-picture", tabindex: "0", role: "application",
                             "data-panel": name, "aria-roledescription": "picture with a point" },
                    image, heat);
  const caption = make("figcaption", {}, make("b", {}, title));
  const [columns, rows] = ["rc-across", "rc-down"].map((name) =>
    make("div", { class: name, "aria-hidden": "true" }));
  const ruled = make("div", { class: "rc-ruled" }, columns, rows, area);
  return { area, image, heat, columns, rows, caption, figure: make("figure", {}, caption, ruled) };
}
function rule(ruler, edge, side, here) {                  // the numbers that the words use
  const each = Math.max(1, side / 4), ticks = [0, each - 1, 2 * each - 1, 3 * each - 1, side - 1];
  const shown = here === null ? ticks : [...ticks.filter((v) => Math.abs(v - here) > 1), here];
  ruler.replaceChildren(...shown.map((v) => make(v === here ? "b" : "span",
    { style: `${edge}: ${100 * (v + 0.5) / side}%` }, `${v + 1}`)));
}
function showPicture(part, bytes, text) {
  URL.revokeObjectURL(part.image.src);
  part.figure.hidden = !bytes.byteLength;
  part.image.src = bytes.byteLength ? URL.createObjectURL(new Blob([bytes])) : "";
  part.image.alt = text;
  part.area.setAttribute("aria-label", `${text}. Arrow keys move the point, Escape lets it go.`);
}
function join(svg, panels, on, cell, side, matches) {
  svg.replaceChildren();
  const frame = svg.getBoundingClientRect();
  const spot = (name, c) => {
    const r = panels[name].heat.getBoundingClientRect(), unit = r.width / side;
    return { x: r.left - frame.left + (c % side + 0.5) * unit, unit,
             y: r.top - frame.top + (Math.floor(c / side) + 0.5) * unit };
  };
  const from = spot(on, cell), other = on === "sketch" ? "reference" : "sketch";
  for (const [c, w] of [...matches].reverse()) if (w > 0) {        // the strongest on top
    const to = spot(other, c), share = w / matches[0][1];
    rimmed(svg, "line", 0.6 + 2.4 * share, { x1: from.x, y1: from.y, x2: to.x, y2: to.y,
                                             opacity: 0.25 + 0.75 * share, "data-cell": c });
  }
  const framed = on === "sketch" ? ["sketch", "fake", "truth"] : ["reference"];
  for (const name of framed) if (!panels[name].figure.hidden) {
    const { x, y, unit } = spot(name, cell);
    rimmed(svg, "rect", 1.6, { x: x - unit / 2, y: y - unit / 2, width: unit, height: unit,
                             "data-panel": name });
  }
}

// --- the words under the pictures: where, how much, and the colours side by side

function headline(scene, on, cell, weights, pinned) {
  const total = weights.reduce((a, b) => a + b, 0), where = place(cell, scene.positions);
  const head = on === "sketch" ? `Sketch, ${where}, looks at:` :
    `Reference, ${where}, gets ${total.toFixed(2)} looks (the average is 1), from:`;
  const held = pinned ? [make("b", { class: "rc-held" }, "held"), " "] : [];
  const hint = pinned ? "(Escape lets go)" : "(click to hold the point)";
  return make("p", {}, head, " ", ...held, make("span", { class: "rc-hint" }, hint));
}
function chips(scene, cell, weights) {
  const { reference, fake, truth } = scene.colours;
  const at = (bytes) => [...floats(bytes).slice(3 * cell, 3 * cell + 3)];
  const all = [swatch("mixture", mixture(weights, floats(reference)))];
  all.push(swatch(PANELS.fake, at(fake)));
  if (truth.byteLength) all.push(swatch(PANELS.truth, at(truth)));
  return make("p", { class: "rc-swatches" }, ...all);
}
function bar(heat) {
  const stops = heat.filter((_, i) => i % 9 === 0).map((rgb) => `rgb(${rgb})`);
  const style = `background: linear-gradient(to right, ${stops})`;
  return make("span", { class: "rc-bar", style });
}
function describe(scene, { on, cell }, weights, matches, pinned, map, heat) {
  const off = "The fusion is off: nothing comes from the reference.";
  if (!scene.attends) return [make("p", {}, off)];
  const side = scene.positions, notes = make("div"), h = bits(weights);
  if (on === "sketch") notes.append(chips(scene, cell, weights),
    make("p", { class: "rc-bits", "data-bits": h }, `entropy ${h.toFixed(2)} of ` +
      `${2 * Math.log2(side)} bits: as if spread over ${(2 ** h).toFixed(1)} places`));
  const top = Math.max(...weights);
  notes.append(make("p", {}, "0 ", bar(heat), ` ${percent(top)}`));
  if (on === "sketch" && map) notes.append(make("p", {}, `map of entropy: yellow is ${map} bits`));
  const head = headline(scene, on, cell, weights, pinned);
  return [make("div", {}, head, matchList(matches, side)), notes];
}

// --- a `page` holds what belongs together. New numbers from Python lead to `news`, another
// temperature to `compute`, another point only to `draw`.

function draw(page) {
  const { model, scene, alpha, panels, here } = page, { on, cell } = here, side = scene.positions;
  const weights = (on === "sketch" ? row : column)(alpha, side * side, cell);
  const matches = strongest(weights, model.get("k")), map = model.get("entropy") && scene.attends;
  const heat = model.get("heat");
  for (const p of Object.values(panels)) p.heat.width = side;                          // cleared
  const other = on === "sketch" ? "reference" : "sketch";
  if (scene.attends) paint(panels[other].heat, weights, side, heat);
  if (map && on === "sketch") paint(panels.sketch.heat, page.spread, side, heat);
  join(page.lines, panels, on, cell, side, matches);
  page.words.replaceChildren(...describe(scene, here, weights, matches, model.get("pinned"),
                                         map && Math.max(...page.spread).toFixed(2), heat));
  const aiming = page.aiming !== null, held = model.get("pinned") && on === "sketch";
  page.aim.disabled = !scene.attends || !(aiming || held);
  page.aim.textContent = aiming ? "Now click the reference (Escape: no)" :
                                  "Make this part look elsewhere…";
  page.forget.hidden = !scene.hints;
  page.forget.textContent = `Forget ${scene.hints} hint${scene.hints > 1 ? "s" : ""}`;
  for (const [name, { columns, rows }] of Object.entries(panels)) {
    const at = sideOf(name) === on;
    rule(columns, "left", side, at ? cell % side : null);
    rule(rows, "top", side, at ? Math.floor(cell / side) : null);
  }
  page.box.classList.toggle("rc-holds", model.get("pinned"));
  Object.assign(page.box.dataset, { on, cell, temperature: model.get("temperature") });
}
function compute(page) {
  const n = page.scene.positions ** 2;
  page.alpha = attention(floats(page.scene.logits), n, page.model.get("temperature"));
  if (!page.scene.attends) page.alpha.fill(0);
  page.spread = Float32Array.from({ length: n }, (_, i) => bits(row(page.alpha, n, i)));
  draw(page);
}
function news(page) {
  const { pictures, alt, step } = page.scene = page.model.get("scene");
  for (const [name, part] of Object.entries(page.panels))
    showPicture(part, pictures[name], alt[name]);
  Object.assign(page.box.dataset, { step, panels: pictures.truth.byteLength ? 4 : 3 });
  compute(page);
}

// --- what a person does: point, click, press keys. Hovering stays in the page; only a point
// that is held is told to Python.

function hold(page, on, cell, pinned) {
  page.here = { on, cell };
  page.model.set({ on, cell, pinned });
  page.model.save_changes();
  draw(page);
}
function give(page, there) {                              // a hint: this part looks there
  const cell = page.aiming;
  page.model.send({ kind: "hint", here: cell, there });
  page.aiming = null;
  hold(page, "sketch", cell, true);
}
function listen(page, name, { area, heat }) {
  const on = sideOf(name), side = () => page.scene.positions, held = () => page.model.get("pinned");
  const under = (event) => {
    const r = heat.getBoundingClientRect();
    const part = (v, size) => clamp(Math.floor(v / size * side()), side());
    return part(event.clientY - r.top, r.height) * side() + part(event.clientX - r.left, r.width);
  };
  const same = (cell) => cell === page.here.cell && on === page.here.on;
  area.addEventListener("pointermove", (event) => {
    const cell = under(event);
    if (!held() && !same(cell)) { page.here = { on, cell }; draw(page); }
  });
  area.addEventListener("click", (event) => {
    const cell = under(event);
    if (page.aiming !== null && on === "reference") give(page, cell);
    else hold(page, on, cell, !(same(cell) && held()));
  });
  area.addEventListener("keydown", (event) => {
    const { cell } = page.here, x = cell % side(), y = Math.floor(cell / side());
    if (event.key === "Escape") { page.aiming = null; hold(page, page.here.on, cell, false); }
    else if (event.key === "Enter" && page.aiming !== null && on === "reference") give(page, cell);
    else if (STEPS[event.key]) {
      event.preventDefault();
      const [dx, dy] = STEPS[event.key];
      hold(page, on, clamp(y + dy, side()) * side() + clamp(x + dx, side()), true);
    }
  });
}

function download(page, button) {
  let sent = false;                                       // another view of this widget may have
  button.addEventListener("click", () => { sent = true; page.model.send({ kind: "download" }); });
  page.model.on("msg:custom", (content, buffers) => {
    if (!sent || content.kind !== "file") return;
    sent = false;
    const href = URL.createObjectURL(new Blob([buffers[0]]));
    make("a", { download: content.name, href }).click();
  });
}
function renderView({ model, el }) {
  const panels = Object.fromEntries(Object.entries(PANELS).map(([n, t]) => [n, panel(n, t)]));
  const lines = shape("svg", { class: "rc-lines", "aria-hidden": "true" });
  const words = make("div", { class: "rc-words", "aria-live": "polite" });
  const button = (text) => make("button", { class: "rc-button", type: "button" }, text);
  const [save, aim, forget] = [button("Download"), button(""), button("")];
  const figures = Object.values(panels).map((p) => p.figure);
  const grid = make("div", { class: "rc-panels" }, ...figures, lines);
  const below = make("div", {}, words, make("div", { class: "rc-tools" }, aim, forget));
  const box = make("div", { class: "rc", "data-lm-suppress-shortcuts": "true" },
                   make("div", { class: "rc-body" }, grid, below));
  const here = () => ({ on: model.get("on"), cell: model.get("cell") });
  const page = { model, panels, lines, words, aim, forget, box, here: here(), aiming: null };
  panels.fake.caption.append(save);
  for (const [name, part] of Object.entries(panels)) listen(page, name, part);
  download(page, save);
  aim.addEventListener("click", () => {
    page.aiming = page.aiming === null ? page.here.cell : null;
    draw(page);
  });
  forget.addEventListener("click", () => model.send({ kind: "forget" }));
  model.on("change:scene", () => news(page));
  model.on("change:temperature", () => compute(page));
  model.on("change:k change:entropy change:pinned", () => draw(page));
  model.on("change:on change:cell", () => { page.here = here(); draw(page); });
  el.append(box);
  news(page);
  const watch = new ResizeObserver(() => draw(page));
  watch.observe(grid);
  return () => watch.disconnect();
}

// --- the gallery: a strip of pictures to choose from, and a button for one's own

function choose(model, strip, i, focus) {
  const n = model.get("pictures").length, index = (i + n) % n;
  model.set({ index });
  model.save_changes();
  if (focus) strip.children[index].focus();
}
function thumb(model, strip, bytes, i) {
  const name = model.get("names")[i], src = URL.createObjectURL(new Blob([bytes]));
  const button = make("button", { class: "rc-thumb", type: "button", role: "radio",
                                  "aria-label": name, title: name }, make("img", { src, alt: "" }));
  button.addEventListener("click", () => choose(model, strip, i));
  button.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (step) { event.preventDefault(); choose(model, strip, i + step, true); }
  });
  return button;
}
function mark(model, strip) {
  [...strip.children].forEach((button, i) => {
    const chosen = i === model.get("index");
    button.setAttribute("aria-checked", chosen);
    button.tabIndex = chosen ? 0 : -1;
    if (chosen) requestAnimationFrame(() => {             // first it must be in the page
      strip.scrollLeft = button.offsetLeft - strip.offsetLeft - strip.clientWidth / 2;
    });
  });
}
function fill(model, strip) {
  strip.querySelectorAll("img").forEach((image) => URL.revokeObjectURL(image.src));
  strip.replaceChildren(...model.get("pictures").map((p, i) => thumb(model, strip, p, i)));
  mark(model, strip);
}

// A file that is too large never leaves the browser: the server would cut the line, and with it
// the whole page. Only Python writes `message`; if the page wrote it, too, the two could
// overtake each other.
async function take(model, file, say) {
  const name = `${model.get("role")}: ${file.name}`, limit = model.get("max_bytes");
  const mega = (file.size / 1e6).toFixed(1);
  say("");
  if (!file.size) say(`${name} is empty; choose another file`);
  else if (file.size > limit)
    say(`${name} has ${mega} MB; at most ${limit / 1e6} MB, save it smaller`);
  else model.send({ kind: "upload", name: file.name }, undefined, [await file.arrayBuffer()]);
}
function renderGallery({ model, el }) {
  const role = model.get("role"), alert = make("p", { class: "rc-alert", role: "alert" });
  const strip = make("div", { class: "rc-strip", role: "radiogroup",
                              "aria-label": `choose a ${role}` });
  const label = { type: "file", accept: "image/*", "aria-label": `upload a ${role}` };
  const input = make("input", label);
  const upload = make("label", { class: "rc-upload rc-button" }, "Upload…", input);
  input.addEventListener("change", async () => {
    if (input.files[0]) await take(model, input.files[0], say);
    input.value = "";                                     // the same file can be chosen again
  });
  const say = (text) => { alert.textContent = text; };
  model.on("change:pictures", () => fill(model, strip));
  model.on("change:index", () => { say(""); mark(model, strip); });
  model.on("change:message", () => say(model.get("message")));
  el.append(make("div", { class: "rc-gallery", "data-lm-suppress-shortcuts": "true" },
                 make("b", {}, role), strip, ...(model.get("max_bytes") ? [upload] : [])), alert);
  fill(model, strip);
  say(model.get("message"));
}
// one file for both widgets: a view has a scene, a gallery has none
const render = (widget) => widget.model.get("scene") ? renderView(widget) : renderGallery(widget);
export default { render };
