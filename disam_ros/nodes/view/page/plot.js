// SPDX-License-Identifier: Apache-2.0
// Confidence of the last minute: a line, and below it a mark for each image whose place is unknown.
import { colours, fitted, onChange } from "./map.js";

const SPAN = 60, LEFT = 30, BOTTOM = 20, TOP = 6, RIGHT = 8; // [s], [px]
const GAP = 5; // [s] without an answer that the line does not bridge

export class Plot {
  constructor(canvas) {
    Object.assign(this, { canvas, samples: [], clock: 0 });
    this.draw = onChange(canvas, () => this.paint());
  }

  reset() {
    this.samples = []; // all come again
  }

  update(news) {
    this.samples.push(...news.history);
    this.clock = news.clock;
    this.samples = this.samples.filter(([time]) => news.clock - time <= SPAN && time <= news.clock);
    const last = this.samples[this.samples.length - 1];
    const known = this.samples.filter((sample) => sample[2] === "known").length;
    const text = last ? `${known} of ${this.samples.length} images of the last minute are of a known place` : "No answers";
    this.canvas.setAttribute("aria-label", text);
    this.draw();
  }

  paint() {
    const { context, width, height } = fitted(this.canvas), colour = colours();
    const x = (time) => width - RIGHT - (this.clock - time) / SPAN * (width - LEFT - RIGHT);
    const y = (value) => TOP + (1 - Math.max(0, Math.min(1, value))) * (height - TOP - BOTTOM);
    context.font = "12px system-ui, sans-serif";
    context.strokeStyle = colour.line;
    context.fillStyle = colour.soft;
    context.lineWidth = 1;
    for (const value of [0, 0.5, 1]) {
      const level = Math.round(y(value)) + 0.5;
      context.beginPath();
      context.moveTo(LEFT, level);
      context.lineTo(width - RIGHT, level);
      context.stroke();
      context.textAlign = "right";
      context.fillText(String(value), LEFT - 6, level + 4);
    }
    for (const age of [60, 30, 0]) {
      context.textAlign = age === 0 ? "right" : age === 60 ? "left" : "center";
      context.fillText(age ? `−${age} s` : "now", x(this.clock - age), height - 4);
    }
    this.paintLine(context, x, y, colour);
  }

  paintLine(context, x, y, colour) {
    context.lineWidth = 1.75;
    context.lineJoin = "round";
    context.strokeStyle = colour.accent;
    context.beginPath();
    let before = -Infinity;
    for (const [time, value] of this.samples) {
      if (value === null) continue;
      if (time - before > GAP) context.moveTo(x(time), y(value));
      else context.lineTo(x(time), y(value));
      before = time;
    }
    context.stroke();
    context.fillStyle = colour.soft;
    for (const [time, , outcome] of this.samples) {
      if (outcome !== "known") context.fillRect(x(time) - 1, y(0) - 6, 2, 6);
    }
  }
}
