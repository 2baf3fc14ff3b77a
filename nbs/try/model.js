// What stands where a kernel would, a plain object with anywidget's methods; and small help.

export const here = (name) => new URL(name, import.meta.url).href;
export async function fetched(name) {
  return new Uint8Array(await (await fetch(here(name))).arrayBuffer());
}
export class Refusal extends Error {}                     // one sentence for the person
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

export class Model {
  constructor(traits, receive = () => {}) { Object.assign(this, { traits, receive, heard: {} }); }
  get(name) { return this.traits[name]; }
  set(name, value) {
    const news = typeof name === "string" ? { [name]: value } : name;
    const changed = Object.keys(news).filter((key) => this.traits[key] !== news[key]);
    Object.assign(this.traits, news);
    for (const key of changed) this.tell(`change:${key}`);
  }
  on(events, call) { for (const name of events.split(" ")) (this.heard[name] ??= []).push(call); }
  tell(name, ...news) { for (const call of this.heard[name] ?? []) call(...news); }
  save_changes() {}
  send(content, _, buffers = []) { this.receive(content, buffers); }
}
