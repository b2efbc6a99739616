// The half of toolbox/42_browser that runs in the page: it asks Python for planes, and tells Python what the mouse did.
// Python owns the voxels. `plane.js` and `controls.js` stand before it in one module.

// Call `move` while the mouse moves with its button down, then `end`.
function follow(element, event, move, end) {
  element.setPointerCapture(event.pointerId);
  element.onpointermove = move;
  element.onpointerup = () => {
    element.onpointermove = element.onpointerup = null;
    end?.();
  };
}

// As `KEYS` names it.
function keyOf(event) {
  const held = event.ctrlKey || event.metaKey ? `Control ${event.shiftKey ? 'Shift ' : ''}` : '';
  return held + (event.key.length === 1 ? event.key.toLowerCase() : event.key);
}

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

class Browser {
  constructor(model, el) {
    const axes = ([z, y, x]) => ({ z, y, x });
    this.model = model;
    this.info = model.get('info');
    this.nm = this.info.pixel / 10 || 1; // side of a voxel; 1 where it is not known
    this.size = axes(this.info.shape);
    this.at = axes(model.get('at'));
    this.centre = {}; // the voxel in the middle of the screen
    for (const name of ['threshold', 'limits', 'opacity']) this[name] = model.get(name);
    this.overlay = true;
    this.outline = false;
    this.three = this.info.three;
    this.fits = true; // all is seen, until somebody zooms or moves; `scale` is pixels of the screen a voxel
    this.ratio = window.devicePixelRatio || 1;
    this.tool = this.info.paint ? 'line' : 'look';
    this.sizes = { line: 4.4, brush: 10, eraser: 16 }; // nm
    this.points = []; // y, x of the stroke or line that is being drawn
    this.way = [];    // y, x: the line, snapped
    this.mouse = null;
    this.grey = '';   // value under the mouse
    this.asked = 0;   // requests
    this.waiting = false; // one request at a time, the newest next
    this.timers = {}; // by name, of what Python is told later
    this.planes = Object.keys(PLANES).map((name) => new Plane(this, name));
    this.root = document.createElement('div');
    this.root.className = 'mb';
    this.root.tabIndex = 0;
    this.root.dataset.lmSuppressShortcuts = 'true'; // JupyterLab leaves our keys alone
    el.append(this.root);
    this.build();
    this.listen();
    new ResizeObserver(() => this.layout()).observe(this.root);
    this.layout();
    this.ask();
  }

  // ---- controls
  build() {
    const { info } = this;
    const bars = [LOOK_BAR + (info.found || info.paint ? MASK_BAR : '')];
    if (info.found === 'probability') bars.push(THRESHOLD_BAR);
    if (info.paint) bars.push(PAINT_BAR);
    this.root.innerHTML = bars.map((bar) => `<div class="mb-bar">${bar}</div>`).join('')
      + '<div class="mb-planes"></div><output name="place"></output><output name="said"></output>';
    this.named = Object.fromEntries([...this.root.querySelectorAll('[name]')].map((one) => [one.name, one]));
    this.grid = this.root.querySelector('.mb-planes');
    this.histogram = this.root.querySelector('canvas');
    this.named.z.max = this.size.z - 1;
    this.named.z.value = this.at.z;
    for (const name of ['threshold', 'opacity']) if (this.named[name]) this.named[name].value = this[name];
    if (this.named.keep) this.named.keep.hidden = !info.keeps;
    if (!info.paint) return;
    this.named.unit.value = info.pixel ? 'nm' : 'voxels';
    if (info.found) this.named.take.textContent = 'take what was found';
    this.setTool(this.tool);
  }

  // What buttons and keys do, by name.
  acts() {
    const through = (step) => () => this.go({ z: this.at.z + step });
    const send = (kind) => () => this.send(kind);
    const tool = (name) => () => this.setTool(name);
    return {
      up: through(1), down: through(-1), 'far up': through(10), 'far down': through(-10),
      first: through(-Infinity), last: through(Infinity), before: () => this.jump(-1), next: () => this.jump(1),
      three: () => this.toggleThree(), fit: () => this.fit(), auto: () => this.setLimits(this.info.auto),
      nearer: () => this.zoom(1.25), farther: () => this.zoom(.8),
      overlay: () => this.turn('overlay'), outline: () => this.turn('outline'), keep: () => this.keep(),
      look: tool('look'), line: tool('line'), brush: tool('brush'), eraser: tool('eraser'),
      smaller: () => this.stretch(1 / 1.25), larger: () => this.stretch(1.25),
      end: () => this.endLine(), drop: () => this.dropLine(), back: () => this.back(),
      undo: send('undo'), redo: send('redo'), save: send('save'), take: () => this.send('take', { z: this.at.z }),
    };
  }

  // What sliders and boxes do, by name.
  moves() {
    return {
      z: (z) => this.go({ z }),
      mean: () => this.ask(),
      size: (size) => this.resize(size),
      opacity: (opacity) => { this.opacity = opacity; this.recolour(); },
      threshold: (threshold) => { this.threshold = threshold; this.recolour(); this.later('threshold'); },
    };
  }

  keep() {
    this.say('writing the mask ...');
    this.send('keep', { threshold: this.threshold });
  }

  setTool(name) {
    this.tool = name;
    for (const other of ['look', 'line', 'brush', 'eraser']) this.named[other].setAttribute('aria-pressed', other === name);
    this.named.size.value = this.sizes[name] ?? '';
    this.named.size.disabled = name === 'look';
    this.dropLine();
  }

  resize(size) {
    if (!(size > 0) || this.tool === 'look') return;
    this.sizes[this.tool] = size;
    this.draw();
  }

  // Make the tool larger or smaller.
  stretch(factor) {
    this.resize(Math.round(10 * this.sizes[this.tool] * factor) / 10);
    this.named.size.value = this.sizes[this.tool] ?? '';
  }

  // Half the size of the tool, in voxels.
  radius() { return this.sizes[this.tool] / 2 / this.nm; }

  // Turn the overlay or its outline on or off.
  turn(name) {
    this[name] = !this[name];
    if (this.named[name]) this.named[name].checked = this[name];
    this.recolour();
  }

  // ---- talk with Python
  send(kind, more = {}) { this.model.send({ kind, ...more }); }

  sync(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
  }

  // Tell Python of a value that changes many times a second when it has come to rest.
  later(name) {
    clearTimeout(this.timers[name]);
    this.timers[name] = setTimeout(() => this.sync(name, this[name]), 150);
  }

  listen() {
    const bytes = (buffer) => new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
    this.model.on('msg:custom', (content, buffers) => this[`on_${content.kind}`](content, buffers.map(bytes)));
    this.model.on('change:at', () => {
      const [z, y, x] = this.model.get('at');
      this.go({ z, y, x });
    });
    this.model.on('change:threshold', () => {
      this.threshold = this.model.get('threshold');
      if (this.named.threshold) this.named.threshold.value = this.threshold;
      this.recolour();
    });
    this.model.on('change:limits', () => {
      if (this.limits.join() !== this.model.get('limits').join()) this.setLimits(this.model.get('limits'));
    });
    this.model.on('change:shares change:annotated', () => this.draw());
    const acts = this.acts(), moves = this.moves(), keys = this.info.paint ? { ...KEYS, ...PAINT_KEYS } : KEYS;
    this.root.onkeydown = (event) => this.press(event, acts[keys[keyOf(event)]]);
    this.root.oninput = ({ target }) => moves[target.name]?.(+target.value);
    this.root.onclick = ({ target }) => {
      if (!target.matches('button, [type=checkbox]')) return;
      acts[target.name]();
      this.root.focus({ preventScroll: true });
    };
    this.histogram.onpointerdown = (event) => this.dragLimit(event);
    for (const plane of this.planes) this.listenTo(plane);
  }

  // Ask for the planes that are seen. While an answer is under way, only the newest wish is kept.
  ask() {
    this.asked++;
    this.wished = performance.now();
    if (!this.waiting) this.request();
  }

  request() {
    const planes = this.three ? ['xy', 'zy', 'xz'] : ['xy'], { z, y, x } = this.at;
    this.waiting = true;
    this.since = this.wished;
    this.send('planes', { planes, at: [z, y, x], mean: +this.named.mean.value, limits: this.limits, number: this.asked });
  }

  async on_planes({ planes, at: [z, y, x], number }, buffers) {
    for (const { plane: name, annotated, layers } of planes) {
      const plane = this.planes.find((p) => p.name === name);
      plane.grey = await createImageBitmap(new Blob([buffers.shift()], { type: 'image/jpeg' }));
      plane.annotated = annotated;
      for (const layer of layers) await plane.take(layer, buffers.shift());
    }
    this.draw();
    this.note({ z, y, x, answered: number, ms: Math.round(performance.now() - this.since) });
    this.waiting = false;
    if (this.asked !== number) this.request();
  }

  async on_painted({ z, annotated, layer }, buffers) {
    const [plane] = this.planes, elsewhere = z !== this.at.z;
    if (elsewhere) this.go({ z });
    plane.annotated = annotated;
    await plane.take(layer, buffers[0]);
    this.dropLine();
    this.painted = (this.painted ?? 0) + 1;
    this.note({ painted: this.painted, strokeMs: Math.round(performance.now() - this.strokeAt) });
    if (this.three && !elsewhere) this.ask();
  }

  on_way({ points, number }) {
    if (this.tool !== 'line' || number !== this.points.length) return;
    this.way = points;
    this.draw();
  }

  on_again() { this.ask(); } // the copy for the planes across z has grown

  on_value({ text }) {
    this.grey = text;
    this.words();
  }

  on_said({ text, wrong }) {
    this.say(text, wrong);
    if (!wrong) return;
    this.waiting = false; // what went wrong may have been a picture
    this.dropLine();
  }

  say(text, wrong = false) {
    clearTimeout(this.silence);
    this.named.said.textContent = text;
    this.named.said.className = wrong ? 'wrong' : '';
  }

  note(facts) { Object.assign(this.root.dataset, facts); } // what the tests in a browser read

  // ---- where we are
  go(to) {
    const before = this.at;
    this.at = { ...before };
    for (const [axis, value] of Object.entries(to)) this.at[axis] = clamp(Math.round(value), 0, this.size[axis] - 1);
    const { z, y, x } = this.at;
    if (z === before.z && y === before.y && x === before.x) return;
    if (z !== before.z) this.points = this.way = [];
    this.sync('at', [z, y, x]);
    this.named.z.value = z;
    this.ask();
  }

  jump(step) {
    const there = this.model.get('annotated').filter((z) => (z - this.at.z) * step > 0);
    if (there.length) this.go({ z: step > 0 ? Math.min(...there) : Math.max(...there) });
  }

  toggleThree() {
    this.three = !this.three;
    this.fit();
    this.ask();
  }

  // The sizes of the canvases: xy as large as fits, the others as deep as the volume, within reason.
  layout() {
    const { x, y, z } = this.size;
    const deep = this.three ? Math.max(z, x / 6) : 0, tall = this.three ? Math.max(z, y / 6) : 0;
    const width = Math.max(200, this.root.clientWidth - 12), height = Math.max(240, window.innerHeight * .72);
    const scale = Math.min(width / (x + deep), height / (y + tall));
    const sizes = { xy: [x, y], zy: [deep, y], xz: [x, tall] };
    const seen = this.planes.filter((plane) => this.three || plane.name === 'xy');
    this.grid.style.gridTemplateColumns = this.three ? 'auto auto' : 'auto';
    this.grid.replaceChildren(...seen.map((plane) => plane.canvas));
    for (const { name, canvas } of seen) {
      const [w, h] = sizes[name].map((n) => Math.max(24, Math.floor(n * scale)));
      Object.assign(canvas, { width: w * this.ratio, height: h * this.ratio });
      Object.assign(canvas.style, { width: `${w}px`, height: `${h}px` });
    }
    this.fitted = scale * this.ratio;
    if (this.fits) {
      this.scale = this.fitted;
      for (const axis of 'xyz') this.centre[axis] = (this.size[axis] - 1) / 2;
    }
    this.named.three.setAttribute('aria-pressed', this.three);
    this.draw();
  }

  fit() {
    this.fits = true;
    this.layout();
  }

  // The voxel under the mouse stays where it is.
  zoom(factor, plane = this.planes[0], place = [this.centre[plane.up], this.centre[plane.right]]) {
    const before = this.scale;
    this.fits = false;
    this.scale = clamp(before * factor, this.fitted / 2, 40 * this.ratio);
    const moved = 1 - before / this.scale;
    [plane.up, plane.right].forEach((axis, i) => { this.centre[axis] += (place[i] - this.centre[axis]) * moved; });
    this.draw();
  }

  // ---- pictures
  recolour() {
    for (const plane of this.planes) for (const name of Object.keys(plane.layers)) plane.tint(name);
    this.draw();
  }

  draw() {
    for (const plane of this.planes) if (plane.canvas.isConnected) plane.draw();
    this.drawHistogram();
    this.words();
    this.drawn = (this.drawn ?? 0) + 1;
    this.note({ drawn: this.drawn });
  }

  // The threshold as Python sends a probability.
  step() { return Math.max(1, Math.round(this.threshold * STEPS)); }

  words() {
    const { z } = this.at, [y, x] = this.mouse ?? [this.at.y, this.at.x];
    const inNm = (value) => (value * this.nm).toFixed(1);
    const place = this.info.pixel ? `   x ${inNm(x)}, y ${inNm(y)}, z ${inNm(z)} nm` : '';
    const grey = this.grey ? `   grey value ${this.grey}` : '';
    this.named.place.textContent = `voxel x ${Math.round(x)}, y ${Math.round(y)}, z ${z}${place}${grey}`;
    this.named.number.textContent = `${z} of ${this.size.z}`;
    const { share } = this.named;
    if (!share) return;
    const percent = (part) => `${(100 * part).toFixed(2)} %`;
    const here = this.planes[0].layers.found?.inside ?? 0, all = this.model.get('shares')[this.step()];
    share.textContent = `${this.threshold.toFixed(3)}: ${percent(here)} of this slice is membrane`
      + (all === undefined ? '' : `, ${percent(all)} of all`);
  }

  // ---- contrast
  drawHistogram() {
    const context = this.histogram.getContext('2d'), { counts, low, high } = this.info.histogram;
    const { width, height } = this.histogram, most = Math.max(...counts), wide = width / counts.length;
    context.clearRect(0, 0, width, height);
    context.fillStyle = '#999';
    counts.forEach((n, i) => context.fillRect(i * wide, height, Math.ceil(wide), -height * n / most));
    context.fillStyle = '#d55e00';
    for (const limit of this.limits) context.fillRect((limit - low) / (high - low) * width - 1.5, 0, 3, height);
  }

  setLimits(limits) {
    this.limits = limits;
    this.ask();
    this.later('limits');
  }

  dragLimit(event) {
    const { low, high } = this.info.histogram, box = this.histogram.getBoundingClientRect();
    const grey = (e) => low + clamp((e.clientX - box.left) / box.width, 0, 1) * (high - low);
    const [black, white] = this.limits.map((limit) => Math.abs(grey(event) - limit));
    const move = (e) => {
      const limits = [...this.limits];
      limits[black < white ? 0 : 1] = grey(e);
      if (limits[0] < limits[1]) this.setLimits(limits);
    };
    follow(this.histogram, event, move);
    move(event);
  }

  // ---- the mouse
  listenTo(plane) {
    const { canvas } = plane;
    const wheel = (event) => {
      event.preventDefault();
      const zooms = event.ctrlKey || event.metaKey;
      if (zooms) this.zoom(event.deltaY < 0 ? 1.25 : .8, plane, plane.toVoxel(event));
      else this.go({ [plane.through]: this.at[plane.through] - Math.sign(event.deltaY) });
    };
    canvas.addEventListener('wheel', wheel, { passive: false });
    canvas.addEventListener('pointerdown', (event) => this.down(plane, event));
    canvas.addEventListener('dblclick', () => this.endLine());
    canvas.addEventListener('contextmenu', (event) => event.preventDefault());
    if (plane.name !== 'xy') return;
    canvas.addEventListener('pointermove', (event) => this.hover(plane.toVoxel(event)));
    canvas.addEventListener('pointerleave', () => { this.mouse = null; this.draw(); });
  }

  down(plane, event) {
    const place = plane.toVoxel(event), paints = plane.name === 'xy' && event.button === 0 && !event.shiftKey;
    this.root.focus({ preventScroll: true });
    if (!paints || this.tool === 'look') this.dragView(plane, event, place);
    else if (this.tool === 'line') this.addPoint(place);
    else this.dragStroke(plane, event, place);
  }

  // A drag moves the picture; a click that does not move sets the cursor of the other planes.
  dragView(plane, event, [up, right]) {
    let moved = false;
    const move = (e) => {
      moved ||= Math.hypot(e.clientX - event.clientX, e.clientY - event.clientY) > 3;
      if (!moved) return;
      this.fits = false;
      this.centre[plane.right] -= e.movementX * this.ratio / this.scale;
      this.centre[plane.up] += e.movementY * this.ratio / this.scale;
      this.draw();
    };
    follow(plane.canvas, event, move, () => { if (!moved) this.go({ [plane.right]: right, [plane.up]: up }); });
  }

  dragStroke(plane, event, place) {
    const move = (e) => {
      const events = e.getCoalescedEvents?.() ?? [e]; // all places since the last picture
      this.points.push(...events.map((one) => plane.toVoxel(one)));
      this.draw();
    };
    this.points = [place, place]; // a click is a stroke, too
    follow(plane.canvas, event, move, () => this.paint('stroke', this.tool === 'eraser' ? 0 : +this.named.class.value));
    this.draw();
  }

  // Let Python paint along the points; a kernel that has died does not answer.
  paint(kind, value) {
    this.strokeAt = performance.now();
    this.silence = setTimeout(() => this.say('Python does not answer: this is not kept; run the cell again', true), 10000);
    this.send(kind, { z: this.at.z, points: this.points, size: this.sizes[this.tool], value });
  }

  addPoint(place) {
    const [y, x] = this.points.at(-1) ?? [Infinity, Infinity];
    if (Math.hypot(place[0] - y, place[1] - x) * this.scale < 3) return; // the second half of a double click
    this.points = [...this.points, place];
    this.snap();
  }

  snap() {
    this.way = this.points;
    this.draw();
    if (this.points.length > 1) this.send('way', { z: this.at.z, points: this.points });
  }

  dropLine() {
    this.points = this.way = [];
    this.draw();
  }

  // Take the last point back.
  back() {
    this.points = this.points.slice(0, -1);
    this.snap();
  }

  endLine() { if (this.tool === 'line' && this.points.length > 1) this.paint('line', +this.named.class.value); }

  // Ask for the grey value under the mouse, 16 times a second at most.
  hover([y, x]) {
    this.mouse = [y, x];
    const inside = y > -.5 && x > -.5 && y < this.size.y - .5 && x < this.size.x - .5;
    if (!inside) this.grey = '';
    if (inside && !this.asksGrey) {
      this.asksGrey = setTimeout(() => {
        this.asksGrey = null;
        if (this.mouse) this.send('value', { at: [this.at.z, ...this.mouse.map(Math.round)] });
      }, 60);
    }
    if (this.tool === 'look') this.words();
    else this.draw();
  }

  press(event, act) {
    if (!act || event.target.matches('[type=number], select')) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }
}

export default { render({ model, el }) { new Browser(model, el); } };
