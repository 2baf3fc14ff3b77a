// The Colour face of the page, and its tabs: two widgets of anywidget, no build step. Python
// (colouring.py) keeps the picture; this composes what is seen from ink, colours and regions,
// so that pointing, zooming and painting answer at once. Python is told, and has the last word.

// --- pixels

export const times = (a, b) => Math.floor(a * b / 255);   // as Pillow multiplies
export const numbers = (pixels) => pixels.map((p) =>      // 24-bit region numbers
  (p & 255) << 16 | p & 0xff00 | p >>> 16 & 255);
export function boxesOf(labels, width) {                  // region -> [left, top, right, bottom]
  const boxes = [];
  for (let i = 0, x = 0, y = 0; i < labels.length; i++) {
    const box = boxes[labels[i]] ??= [x, y, x, y];
    if (x < box[0]) box[0] = x; else if (x > box[2]) box[2] = x;
    box[3] = y;
    if (++x === width) { x = 0; y++; }
  }
  return boxes;
}
// From here on a pixel is one number, 0xffbbggrr, as a canvas keeps it.
const PAPER = 0xffffffff;
export function tableOf(regions) {                        // colours by number; 0 and null: paper
  return Uint32Array.from(regions, (rgb) =>
    rgb ? (0xff000000 | rgb[2] << 16 | rgb[1] << 8 | rgb[0]) >>> 0 : PAPER);
}
const inked = (pixel, dark) => (0xff000000 | times(pixel >>> 16 & 255, dark) << 16 |
  times(pixel >>> 8 & 255, dark) << 8 | times(pixel & 255, dark)) >>> 0;
// Ink times colours, within a box. `labels` and `table` make it flat, `soft` alone soft, and
// without either it is the drawing itself.
export function compose(out, width, { ink, soft, labels, table }, [left, top, right, bottom]) {
  for (let y = top; y <= bottom; y++)
    for (let i = y * width + left; i <= y * width + right; i++) {
      const pixel = labels ? table[labels[i]] : soft ? soft[i] : PAPER, dark = ink[i] & 255;
      out[i] = dark === 255 ? pixel : inked(pixel, dark);
    }
}
async function decode(bytes) {
  const blob = new Blob([bytes]), canvas = document.createElement("canvas");
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
}

// --- small things

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);                               // strings become text, never markup
  return node;
}
function button(text, action, attributes = {}) {
  const node = make("button", { type: "button", class: "rc-button", ...attributes }, text);
  node.addEventListener("click", action);
  return node;
}
const hex = (rgb) => "#" + rgb.map((c) => c.toString(16).padStart(2, "0")).join("");
const chip = (colour) => make("span", { class: "rc-chip", style: `background:${colour}` });
const within = (v, low, high) => Math.max(low, Math.min(high, v));
const many = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
// what changes rarely may come in traits of its own
const member = (model, name) => model.get("scene")[name] ?? model.get(name);
function image(bytes, alt) {
  const src = URL.createObjectURL(new Blob([bytes]));
  const node = make("img", { src, alt, draggable: "false" });
  node.addEventListener("load", () => URL.revokeObjectURL(src), { once: true });
  return node;
}
function tell(page, kind, more = {}, buffers = []) {
  page.said.forEach((node) => { node.textContent = ""; });
  if (page.before && kind !== "save") showBefore(page, false);     // what is done shall be seen
  page.model.send({ kind, ...more }, undefined, buffers);
}

// --- files: by button, drop or paste; what is too large never leaves the browser

const ROLES = { sketch: "Sketch", reference: "References" };
const say = (page, role, text) => { page.said.get(role).textContent = text; };
const busy = (page, text) => { page.status.textContent = text; };

async function take(page, role, files) {
  const limit = page.model.get("max_bytes"), [file] = files;
  if (role === "sketch" && files.length > 1)
    return say(page, role, `${files.length} files at once; a picture has one sketch`);
  if (!file) return say(page, role, "That is no file of a picture");
  for (const { name, size } of files) {
    if (!size) return say(page, role, `${name} is empty; choose another file`);
    if (size > limit) return say(page, role, `${name} has ${(size / 1e6).toFixed(1)} MB; ` +
                                             `at most ${limit / 1e6} MB, save it smaller`);
  }
  busy(page, `Colouring with ${file.name} …`);
  const more = role === "sketch" ? { extract: page.extract.checked } : { k: instead(page) };
  for (const one of files) {
    tell(page, role, { name: one.name, ...more }, [await one.arrayBuffer()]);
    more.k = null;
  }
}
function instead(page) {                                  // of which reference; null: of none
  const last = page.references.children.length - 1;
  return page.together.checked || last < 0 ? null : last;
}
function picker(page, role) {
  const input = make("input", { type: "file", accept: "image/*", "aria-label": `open a ${role}`,
                                "aria-describedby": `rc-limits-${role}` });
  input.addEventListener("change", async () => {
    if (input.files.length) await take(page, role, [...input.files]);
    input.value = "";                                     // the same file can be chosen again
  });
  return make("label", { class: "rc-upload rc-button" },
              "Open…", input);
}
function listenForFiles(page) {
  const { box } = page, roleAt = (event) => event.target.closest("[data-role]")?.dataset.role;
  const mark = (role) => box.querySelectorAll("[data-role]").forEach((panel) =>
    panel.classList.toggle("rc-over", panel.dataset.role === role));
  box.addEventListener("dragover", (event) => { event.preventDefault(); mark(roleAt(event)); });
  box.addEventListener("dragleave", () => mark(null));
  box.addEventListener("drop", (event) => {               // elsewhere the browser would open it
    event.preventDefault();
    mark(null);
    take(page, roleAt(event) ?? "sketch", [...event.dataTransfer.files]);
  });
  const paste = (event) => {
    if (!box.offsetParent) return;                        // the other face is shown
    const role = document.activeElement?.closest("[data-role]")?.dataset.role ?? "sketch";
    const files = [...event.clipboardData.files];
    if (files.length) take(page, role, files);
    else say(page, role, "What was pasted is no picture; copy a picture, or open a file");
  };
  document.addEventListener("paste", paste);
  return () => document.removeEventListener("paste", paste);
}

// --- the panels of sketch and references, with the gallery

function gallery(page, role) {
  const body = make("div"), shut = make("details", {}, make("summary", {}, "Gallery"), body);
  shut.addEventListener("toggle", () => {                 // pictures are made when they are seen
    if (!shut.open || body.children.length) return;
    const files = member(page.model, "gallery")[role], by = {};
    files.forEach((file, index) => {                      // "artist 12"
      (by[file.name.replace(/ [^ ]*$/, "")] ??= []).push({ ...file, index });
    });
    Object.entries(by).forEach(([artist, pictures]) => body.append(make("div",
      { class: "rc-strip", role: "group", "aria-label": artist }, make("small", {}, artist),
      ...pictures.map(({ index, name, png }) => button(image(png, ""), () => {
        busy(page, "Colouring …");
        tell(page, "choose", { role, index, k: role === "sketch" ? null : instead(page) });
      }, { class: "rc-thumb", "aria-label": name, title: name })))));
  });
  return shut;
}
function panel(page, role, ...children) {
  const alert = make("p", { class: "rc-alert", role: "alert" });
  page.said.set(role, alert);
  const limits = make("small", { id: `rc-limits-${role}` }, page.model.get("limits"));
  const head = make("h2", {}, ROLES[role]);
  const shown = member(page.model, "gallery")?.[role]?.length ? [gallery(page, role)] : [];
  return make("section", { class: "rc-panel", "data-role": role, "aria-label": ROLES[role] },
    head, make("p", {}, picker(page, role), " ", limits), alert, ...children, ...shown);
}
function notes(lines) { return lines.map((line) => make("p", { class: "rc-note" }, line)); }

function fillReferences(page) {
  const found = member(page.model, "references");
  if (found === page.found) return;
  page.found = found;
  page.references.replaceChildren(...found.map(({ name, png, notes: lines }, k) => {
    const label = `reference ${k + 1}: ${name}`, area = make("div", { class: "rc-reference",
      tabindex: "-1", role: "application", "aria-label": label }, image(png, label));
    aimAt(page, area, k);
    return make("li", {}, area, make("p", {}, `${k + 1}. ${name} `, button("Remove", () =>
      tell(page, "drop", { k }), { "aria-label": `remove ${label}` })), ...notes(lines));
  }));
}
function aimAt(page, area, k) {                           // the second half of "look there"
  const cross = make("span", { class: "rc-cross", hidden: "" }), at = { u: 0, v: 0 };
  const give = () => {
    if (!page.aiming) return;
    tell(page, "look", { ...page.aiming, ...at, k });
    aim(page, null);
  };
  area.append(cross);
  area.addEventListener("click", (event) => {
    const r = area.getBoundingClientRect();
    at.u = within((event.clientX - r.left) / r.width * 2 - 1, -1, 1);
    at.v = within((event.clientY - r.top) / r.height * 2 - 1, -1, 1);
    give();
  });
  area.addEventListener("keydown", (event) => {
    if (!page.aiming) return;
    const [dx, dy] = STEPS[event.key] ?? [0, 0];
    [at.u, at.v] = [within(at.u + dx / 12, -1, 1), within(at.v + dy / 12, -1, 1)];
    if (dx || dy) {
      event.preventDefault();
      cross.hidden = false;
      putAt(cross, { x: at.u, y: at.v });
    }
    if (event.key === "Enter") give();
  });
}
function aim(page, from) {
  page.aiming = from;
  page.box.classList.toggle("rc-aiming", Boolean(from));
  const areas = [...page.references.querySelectorAll(".rc-reference")];
  areas.forEach((area) => { area.tabIndex = from ? 0 : -1; });
  busy(page, from ? "Now click the reference where this part shall look (Escape: no)" : "");
  if (from) areas[0]?.focus();
  else if (page.references.contains(document.activeElement)) page.stage.focus();
}

// --- the picture: a window on it that zooms and moves

function draw(page, changed = null) {                     // changed: regions; null: everything
  const { scene, layers, pixels, canvas } = page, { width, height } = scene;
  const flat = scene.flat && layers.labels && !page.before;
  const parts = { ink: layers.ink, soft: page.before ? null : layers.soft };
  if (flat) Object.assign(parts, { labels: layers.labels, table: tableOf(scene.regions) });
  const whole = [0, 0, width - 1, height - 1];
  for (const box of changed && flat ? changed.map((k) => layers.boxes[k]).filter(Boolean)
                                    : [changed ? null : whole].filter(Boolean)) {
    compose(new Uint32Array(pixels.data.buffer), width, parts, box);
    const [left, top, right, bottom] = box;
    canvas.getContext("2d").putImageData(pixels, 0, 0, left, top, right - left + 1,
                                         bottom - top + 1);
  }
}
function fit(page) {
  const { scene: { width, height }, stage } = page;
  page.zoom = Math.min(stage.clientWidth / width, stage.clientHeight / height);
  page.left = (stage.clientWidth - width * page.zoom) / 2;
  page.top = (stage.clientHeight - height * page.zoom) / 2;
  place(page);
}
function zoomBy(page, factor, x = page.stage.clientWidth / 2, y = page.stage.clientHeight / 2) {
  const zoom = within(page.zoom * factor, 0.02, 16), ratio = zoom / page.zoom;
  page.left = x - (x - page.left) * ratio;
  page.top = y - (y - page.top) * ratio;
  page.zoom = zoom;
  place(page);
}
function place(page) {
  const { sheet, zoom, stage, scene: { width, height } } = page;
  const keep = (at, size, room) => within(at, Math.min(40 - size, room - size),
                                          Math.max(room - 40, 0));
  page.left = keep(page.left, width * zoom, stage.clientWidth);
  page.top = keep(page.top, height * zoom, stage.clientHeight);
  Object.assign(sheet.style, { left: `${page.left}px`, top: `${page.top}px`,
                               width: `${width * zoom}px`, height: `${height * zoom}px` });
  sheet.classList.toggle("rc-near", zoom > 2);
  page.percent.textContent = `${Math.round(100 * zoom)} %`;
  ruler(page.columns, "left", page.left, zoom, width, stage.clientWidth);
  ruler(page.rows, "top", page.top, zoom, height, stage.clientHeight);
}
function ruler(node, side, start, zoom, length, room) {   // pixels of the drawing
  const least = 56 / zoom, ten = 10 ** Math.floor(Math.log10(least)), marks = [];
  const step = Math.max(1, [1, 2, 5, 10].map((k) => k * ten).find((k) => k >= least));
  for (let v = 0; v <= length; v += step) {
    const at = start + v * zoom;
    if (at >= 0 && at <= room - 8) marks.push(make("span", { style: `${side}:${at}px` }, `${v}`));
  }
  node.replaceChildren(...marks);
}
const pixelAt = ({ scene: { width, height } }, { x, y }) => [
  within(Math.floor((x + 1) / 2 * width), 0, width - 1),
  within(Math.floor((y + 1) / 2 * height), 0, height - 1)];
const words = (page, at) => { const [x, y] = pixelAt(page, at); return `x ${x}, y ${y}`; };
function regionAt(page, at) {
  const [x, y] = pixelAt(page, at);
  return page.layers.labels?.[y * page.scene.width + x] ?? 0;
}
function highlight(page, region) {
  if (region === page.lit) return;
  page.lit = region;
  const { glow, layers: { labels, boxes }, scene: { width, height } } = page;
  glow.hidden = !region;
  if (!region) return;
  const [left, top, right, bottom] = boxes[region], w = right - left + 1, h = bottom - top + 1;
  [glow.width, glow.height] = [w, h];
  const context = glow.getContext("2d"), mask = context.createImageData(w, h);
  const out = new Uint32Array(mask.data.buffer), coarse = Math.max(2, Math.round(width / 160));
  for (let y = 0, i = 0; y < h; y++)                      // dark and light stripes: seen on any
    for (let x = 0, k = (top + y) * width + left; x < w; x++, i++, k++)
      if (labels[k] === region)
        out[i] = Math.floor((x + left + y + top) / coarse) % 4 ? 0x30ffffff : 0x90b55a00;
  context.putImageData(mask, 0, 0);
  Object.assign(glow.style, {
    left: `${100 * left / width}%`, top: `${100 * top / height}%`,
    width: `${100 * w / width}%`, height: `${100 * h / height}%` });
}
function point(page, at) {
  page.here = { x: at.x, y: at.y };
  const region = regionAt(page, at), rgb = region && page.scene.regions[region];
  highlight(page, region);
  page.where.textContent = words(page, at) + (region ? `: ${rgb ? hex(rgb) : "paper"}` : "");
  page.box.dataset.region = region;
}

// --- what a person does with the picture

function listenToStage(page) {
  const { stage, sheet } = page;
  let grip = null;
  const under = (event) => {
    const r = sheet.getBoundingClientRect();
    return { x: (event.clientX - r.left) / r.width * 2 - 1,
             y: (event.clientY - r.top) / r.height * 2 - 1 };
  };
  const inside = ({ x, y }) => Math.max(Math.abs(x), Math.abs(y)) <= 1;
  stage.addEventListener("pointerdown", (event) => {
    if (event.target.closest(".rc-marker")) return;
    grip = { x: event.clientX, y: event.clientY, moved: false };
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    const at = under(event);
    if (!grip) { if (inside(at) && page.menu.hidden) point(page, at); return; }
    const dx = event.clientX - grip.x, dy = event.clientY - grip.y;
    if (!grip.moved && Math.hypot(dx, dy) < 5) return;
    page.left += dx;
    page.top += dy;
    grip = { x: event.clientX, y: event.clientY, moved: true };
    place(page);
  });
  stage.addEventListener("pointerup", (event) => {
    const at = under(event), click = grip && !grip.moved;
    grip = null;
    if (!click || !inside(at)) return;
    page.cross.hidden = true;
    point(page, at);
    ask(page);
  });
  stage.addEventListener("pointercancel", () => { grip = null; });
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const r = stage.getBoundingClientRect();
    zoomBy(page, 1.0015 ** -event.deltaY, event.clientX - r.left, event.clientY - r.top);
  }, { passive: false });
  stage.addEventListener("keydown", (event) => {
    if (event.target === stage && !event.ctrlKey && !event.metaKey) pressed(page, event);
  });
}
function pressed(page, event) {                           // keys: point, menu, zoom
  const { stage, here: { x, y }, scene: { width, height } } = page, step = STEPS[event.key];
  // 2 % of the window
  const by = (d, room, size) => d * Math.max(2 / size, 0.04 * room / (size * page.zoom));
  if (step) {
    point(page, { x: within(x + by(step[0], stage.clientWidth, width), -1, 1),
                  y: within(y + by(step[1], stage.clientHeight, height), -1, 1) });
    page.cross.hidden = false;
    putAt(page.cross, page.here);
  } else if (event.key === "Enter" || event.key === " ") ask(page);
  else if (event.key === "+" || event.key === "=") zoomBy(page, 1.25);
  else if (event.key === "-") zoomBy(page, 0.8);
  else if (event.key === "0") fit(page);
  else return;
  event.preventDefault();
}
const putAt = (node, { x, y }) =>
  Object.assign(node.style, { left: `${50 * x + 50}%`, top: `${50 * y + 50}%` });

function paint(page, colour) {                            // null: leave it
  const at = page.here, region = regionAt(page, at);
  shut(page);
  if (region && page.scene.flat) {                        // seen at once; Python's answer follows
    const rgb = colour && [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16));
    page.scene.regions[region] = rgb;
    draw(page, [region]);
  }
  tell(page, "paint", { ...at, colour });
}
function swatches(page) {
  return page.scene.palette.map(({ colour, k }) => {
    const title = colour + (Number.isInteger(k) ? ` of reference ${k + 1}` : "");
    return button(chip(colour), () => paint(page, colour),
                  { class: "rc-swatch-button", title, "aria-label": `paint ${title}` });
  });
}
function remover(page, { n }, text) {
  return button(text, () => {
    shut(page);
    page.stage.focus({ preventScroll: true });            // the button goes
    tell(page, "remove", { n });
  }, { "aria-label": `remove correction ${n}` });
}
function ask(page, hint = null) {                         // the menu of a region, or of a hint
  const { menu, stage, here, scene: { can } } = page, region = regionAt(page, here);
  if (!can.flat && !can.look) return say(page, "picture", "Nothing is coloured yet; give a " +
                                                          "sketch and a reference");
  const rgb = page.scene.regions?.[region];
  const own = make("input", { type: "color", value: rgb ? hex(rgb) : "#cc5c26" });
  own.addEventListener("change", () => paint(page, own.value));
  const look = button("Look there…", () => { shut(page); aim(page, { ...here }); });
  const rows = [make("b", {}, words(page, here))];
  if (can.flat) rows.push(make("div", { class: "rc-swatches" }, ...swatches(page)),
    make("label", {}, own, " another colour"),
    button("Leave as paper", () => paint(page, null)));
  if (can.look) rows.push(look);
  if (hint) rows.push(remover(page, hint, `Remove correction ${hint.n}`));
  rows.push(button("Close", () => shut(page)));
  menu.replaceChildren(...rows);
  menu.hidden = false;
  const side = (v, low, length, room) => within(low + (v + 1) / 2 * length + 12, 4, room - 4);
  const { width, height } = page.scene, { offsetWidth, offsetHeight } = menu;
  const x = side(here.x, page.left, width * page.zoom, stage.clientWidth - offsetWidth);
  const y = side(here.y, page.top, height * page.zoom, stage.clientHeight - offsetHeight);
  Object.assign(menu.style, { left: `${Math.max(4, x)}px`, top: `${Math.max(4, y)}px` });
  menu.querySelector("button, input").focus({ preventScroll: true });
}
function shut(page) {
  if (page.menu.hidden) return;
  page.menu.hidden = true;
  highlight(page, 0);
  page.stage.focus({ preventScroll: true });
}

// --- corrections

const KINDS = {
  paint: ({ colour }) => [chip(colour), colour],
  leave: () => ["left as paper"],
  look: ({ k }) => [`looks at reference ${k + 1}`] };
function fillHints(page) {
  const { hints } = page.scene;
  page.list.replaceChildren(...hints.map((hint) => make("li", { value: hint.n, tabindex: "-1" },
    ...KINDS[hint.kind](hint), ` at ${words(page, hint)} `, remover(page, hint, "Remove"),
    ...notes(hint.note ? [hint.note] : []))));
  page.none.hidden = hints.length > 0;
  page.markers.replaceChildren(...hints.map((hint) => {
    const mark = button(`${hint.n}`, () => { point(page, hint); ask(page, hint); },
                        { class: "rc-marker", "aria-label": `correction ${hint.n}` });
    putAt(mark, hint);
    return mark;
  }));
}
function fillPalette(page) {
  page.palette.replaceChildren(...page.scene.palette.map(({ colour, share, regions }) =>
    make("li", {}, chip(colour), make("code", {}, colour),
         share >= 0 ? ` ${(100 * share).toFixed(0)} %, ${many(regions, "region")}` : "")));
}

// --- news from Python: decode what is new, and draw what changed

async function layer(page, name) {
  const bytes = member(page.model, name), known = page.decoded[name];
  if (!bytes?.byteLength) return null;
  if (known?.bytes !== bytes) page.decoded[name] = { bytes, data: decode(bytes) };
  return page.decoded[name].data;
}
async function news(page) {
  const turn = ++page.turn, scene = structuredClone(lean(page.model.get("scene")));
  const [ink, soft, labels] = await Promise.all(["ink", "soft", "labels"].map((n) =>
    layer(page, n)));
  if (turn !== page.turn) return;                         // a later one has come
  const old = page.scene, same = old && page.raw.every((d, i) => d === [ink, soft, labels][i]) &&
        old.flat === scene.flat;
  if (page.raw?.[2] !== labels) {
    page.lit = null;
    page.glow.hidden = true;
    const regions = labels && numbers(labels);
    page.layers = { labels: regions, boxes: regions && boxesOf(regions, scene.width) };
  }
  Object.assign(page.layers, { ink, soft });
  page.raw = [ink, soft, labels];
  page.scene = scene;
  if (!old || old.width !== scene.width || old.height !== scene.height) resize(page);
  const differs = (rgb, k) => `${rgb}` !== `${old.regions[k]}`;
  draw(page, same ? scene.regions.flatMap((rgb, k) => differs(rgb, k) ? [k] : []) : null);
  show(page);
}
const lean = ({ ink, soft, labels, references, gallery: _, ...rest }) => ({ regions: [], ...rest });
function resize(page) {
  const { canvas, scene: { width, height } } = page;
  [canvas.width, canvas.height] = [width, height];
  page.pixels = new ImageData(width, height);
  page.here = { x: 0, y: 0 };
  page.cross.hidden = true;
  fit(page);
}
function show(page) {
  const { scene, tools } = page, { can } = scene;
  tools.undo.disabled = !can.undo;
  tools.redo.disabled = !can.redo;
  tools.flat.disabled = !can.flat;
  tools.flats.disabled = !can.flat;
  tools.ora.disabled = !can.ora;
  page.extract.parentNode.hidden = !can.extract;
  tools.soft.setAttribute("aria-pressed", !scene.flat);
  tools.flat.setAttribute("aria-pressed", Boolean(scene.flat));
  page.named.replaceChildren(`${scene.name}, ${scene.width} × ${scene.height} px`);
  page.notes.replaceChildren(...notes(scene.notes));
  fillReferences(page);
  fillHints(page);
  fillPalette(page);
  busy(page, scene.pending ? "Finding the regions …" : "");
  page.canvas.setAttribute("aria-label", `${scene.name}, coloured`);
  page.box.dataset.step = scene.step;
}
function listenToPython(page) {
  const { model, box } = page;
  model.on("change:scene", () => news(page));
  model.on("msg:custom", (content, buffers) => {
    if (content.kind === "say") {
      busy(page, "");
      say(page, page.said.has(content.role) ? content.role : "picture", content.text);
      news(page);                                         // what was shown ahead is taken back
    } else if (content.kind === "file") {
      const href = URL.createObjectURL(new Blob([buffers[0]]));
      make("a", { download: content.name, href }).click();
    }
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { aim(page, null); shut(page); }
    if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
    event.preventDefault();
    tell(page, event.shiftKey ? "redo" : "undo");
  });
}

// --- the face itself

function showBefore(page, on) {
  page.before = on;
  page.tools.before.setAttribute("aria-pressed", on);
  draw(page);
}
function toolbar(page) {
  const pressed = { "aria-pressed": "false" }, { tools } = page;
  Object.assign(tools, {
    undo: button("Undo", () => tell(page, "undo"), { title: "Ctrl+Z" }),
    redo: button("Redo", () => tell(page, "redo"), { title: "Ctrl+Shift+Z" }),
    soft: button("Soft", () => tell(page, "flat", { on: false }), pressed),
    flat: button("Flat", () => tell(page, "flat", { on: true }), pressed),
    before: button("Before", () => showBefore(page, !page.before), pressed) });
  page.percent = make("span", { class: "rc-percent" });
  const group = (name, ...nodes) => make("div", { role: "group", "aria-label": name }, ...nodes);
  return make("div", { class: "rc-tools" }, group("steps", tools.undo, tools.redo),
    group("colours", tools.soft, tools.flat, tools.before),
    group("zoom", button("−", () => zoomBy(page, 0.8), { "aria-label": "zoom out" }),
          page.percent, button("+", () => zoomBy(page, 1.25), { "aria-label": "zoom in" }),
          button("Fit", () => fit(page))), page.where);
}
function stageOf(page) {
  const hidden = { hidden: "" }, node = (name, more = {}) => make("div", { class: name, ...more });
  page.canvas = make("canvas", { class: "rc-canvas", role: "img" });
  page.glow = make("canvas", { class: "rc-glow", "aria-hidden": "true", ...hidden });
  page.cross = make("span", { class: "rc-cross", ...hidden });
  page.markers = node("rc-markers");
  page.sheet = node("rc-sheet");
  page.sheet.append(page.canvas, page.glow, page.cross, page.markers);
  const label = "the coloured drawing. Arrow keys move the point, Enter opens its menu, " +
                "+ and − zoom, 0 fits";
  page.stage = node("rc-stage", { tabindex: "0", role: "application", "aria-label": label });
  page.stage.append(page.sheet);
  page.menu = node("rc-menu", { role: "dialog", "aria-label": "colour of this region", ...hidden });
  page.columns = node("rc-columns", { "aria-hidden": "true" });
  page.rows = node("rc-rows", { "aria-hidden": "true" });
  const room = node("rc-room");
  room.append(page.stage, page.menu);
  const frame = node("rc-frame");
  frame.append(page.columns, page.rows, room);
  return frame;
}
function aside(page) {
  const { tools } = page, save = (text, as, title = "") =>
    button(text, () => tell(page, "save", { as }), { title });
  Object.assign(tools, { png: save("PNG", "png"), flats: save("Flats", "flats"),
                         ora: save("ORA, layers", "ora",
                                   "lines keep the colour they were drawn in") });
  page.list = make("ol", { class: "rc-hints" });
  page.none = make("p", { class: "rc-hint" }, "None. Click a part of the picture that is wrong.");
  page.palette = make("ul", { class: "rc-palette" });
  return make("div", { class: "rc-aside" },
    make("section", { "aria-label": "Download" }, make("h2", {}, "Download"),
         make("p", {}, tools.png, " ", tools.flats, " ", tools.ora)),
    make("section", { "aria-label": "Corrections" }, make("h2", {}, "Corrections"), page.none,
         page.list),
    make("section", { "aria-label": "Palette" }, make("h2", {}, "Palette"), page.palette));
}
function build(page) {
  page.extract = make("input", { type: "checkbox" });
  page.together = make("input", { type: "checkbox" });
  page.named = make("p", { class: "rc-named" });
  page.notes = make("div");
  page.references = make("ol", { class: "rc-references" });
  page.where = make("span", { class: "rc-where" });
  page.status = make("p", { class: "rc-status", role: "status" });
  const alert = make("p", { class: "rc-alert", role: "alert" });
  page.said.set("picture", alert);
  const photo = make("label", {}, page.extract, " lines of a photograph");
  const add = make("label", {}, page.together, " add to the others");
  const files = make("div", { class: "rc-files" },
    panel(page, "sketch", photo, page.named, page.notes),
    panel(page, "reference", add, page.references));
  const middle = make("section", { class: "rc-middle", "aria-label": "Picture" }, toolbar(page),
                      stageOf(page), page.status, alert);
  page.box.append(make("div", { class: "rc-face" }, files, middle, aside(page)));
}
function renderColour({ model, el }) {
  const box = make("div", { class: "rc-colour", "data-lm-suppress-shortcuts": "true" });
  const page = { model, box, said: new Map(), tools: {}, decoded: {}, layers: {}, raw: null,
                 turn: 0, here: { x: 0, y: 0 }, aiming: null, before: false, zoom: 1, left: 0,
                 top: 0, scene: null };
  build(page);
  listenToStage(page);
  listenToPython(page);
  const forget = listenForFiles(page);
  el.append(box);
  news(page);
  const watch = new ResizeObserver(() => { if (page.scene && box.offsetParent) fit(page); });
  watch.observe(page.stage);
  return () => { watch.disconnect(); forget(); };
}

// --- the tabs

function renderFaces({ model, el }) {
  const faces = model.get("faces"), tabs = faces.map((face) => button(face, () => {
    model.set({ face });
    model.save_changes();
  }, { class: "rc-button rc-tab" }));
  const mark = () => tabs.forEach((tab, i) => {
    if (faces[i] === model.get("face")) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  });
  model.on("change:face", mark);
  el.append(make("nav", { class: "rc-tabs", "aria-label": "faces" }, ...tabs));
  mark();
}
const render = (widget) => widget.model.get("faces") ? renderFaces(widget) : renderColour(widget);
export default { render };
