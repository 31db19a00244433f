// Layouts in a thread of their own, so that the page stays awake; where the browser gives no thread, in this one.
// `graphView` is the function that all modules stand in once they are joined; its text is the thread's program.

import { layoutGraph } from "./layout.js";

export class LayoutWorker {
  constructor() {
    this.waiting = new Map();
    this.count = 0;
    try {
      const program = `const { layoutGraph } = (${graphView})();
        onmessage = ({ data: [id, request] }) => postMessage([id, layoutGraph(request)]);`;
      const url = URL.createObjectURL(new Blob([program], { type: "text/javascript" }));
      this.worker = new Worker(url);
      this.worker.onmessage = ({ data: [id, layout] }) => this.answer(id, layout);
      this.worker.onerror = () => this.doWithout();
    } catch {
      this.worker = null;
    }
  }

  layOut(request) {
    return new Promise((resolve) => {
      this.waiting.set(++this.count, { request, resolve });
      if (this.worker) this.worker.postMessage([this.count, request]);
      else this.answer(this.count, layoutGraph(request));
    });
  }

  answer(id, layout) {
    this.waiting.get(id)?.resolve(layout);
    this.waiting.delete(id);
  }

  doWithout() {
    this.dispose();
    for (const [id, { request }] of [...this.waiting]) this.answer(id, layoutGraph(request));
  }

  dispose() {
    this.worker?.terminate();
    this.worker = null;
  }
}
