// The half of toolbox/42_browser that runs in the page: it draws what Python sends, and tells Python what the mouse did.
// Python owns the voxels. A picture has its top row first; y, and z in the plane xz, run upwards.

const ORANGE = [230, 159, 0], BLUE = [86, 180, 233], GREEN = [0, 158, 115]; // membrane, not annotated, found
const CLASSES = { membrane: 1, background: 0, 'not annotated': 2 };
const PLANES = { xy: ['x', 'y', 'z'], zy: ['z', 'y', 'x'], xz: ['x', 'z', 'y'] }; // to the right, upwards, through
const STEPS = 200; // a probability of 1 is sent as this number

// An element with some properties and children.
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// Bytes that Python packed with zlib.
async function unpack(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// One of the three planes: a canvas, the grey picture, and the layers over it.
class Plane {
  constructor(browser, name) {
    this.browser = browser;
    this.name = name;
    [this.right, this.up, this.through] = PLANES[name];
    this.canvas = make('canvas');
    this.canvas.dataset.plane = name;
    this.grey = null;     // ImageBitmap
    this.layers = {};     // name to {rows, columns, bytes, tint: a canvas}
    this.annotated = true; // whether the slice that is shown is annotated
  }

  // Pixels of the screen for a place in voxels, and back; the centre of a voxel is a whole number.
  toScreen(u, v) {
    const { centre, scale } = this.browser;
    return [this.canvas.width / 2 + (u - centre[this.right]) * scale, this.canvas.height / 2 - (v - centre[this.up]) * scale];
  }
  toVoxel(event) {
    const { centre, scale, ratio } = this.browser, box = this.canvas.getBoundingClientRect();
    return [centre[this.right] + ((event.clientX - box.left) * ratio - this.canvas.width / 2) / scale,
            centre[this.up] - ((event.clientY - box.top) * ratio - this.canvas.height / 2) / scale];
  }

  // Colour a layer: what is at or above the threshold, as an area or as its edge.
  tint(name) {
    const layer = this.layers[name], b = this.browser;
    if (!layer || !layer.rows) return;
    const { rows, columns, bytes } = layer, found = name === 'found';
    const probability = found && b.info.found === 'probability';
    const low = probability ? Math.max(1, Math.round(b.threshold * STEPS)) : 1;
    const colour = found && b.info.paint ? GREEN : ORANGE;
    const on = (i) => (probability ? bytes[i] >= low : bytes[i] === 1);
    const picture = new ImageData(columns, rows), out = new Uint32Array(picture.data.buffer);
    const pixel = ([r, g, blue]) => (Math.round(255 * (b.outline ? 1 : b.opacity)) << 24 | blue << 16 | g << 8 | r) >>> 0;
    const membrane = pixel(colour), ignored = pixel(BLUE);
    let inside = 0;
    for (let i = 0; i < bytes.length; i++) {
      if (on(i)) {
        inside++;
        const column = i % columns;
        const edge = !b.outline || i < columns || i >= bytes.length - columns || column === 0 || column === columns - 1
          || !on(i - 1) || !on(i + 1) || !on(i - columns) || !on(i + columns);
        if (edge) out[i] = membrane;
      } else if (!probability && bytes[i] === 2 && this.annotated) out[i] = ignored;
    }
    layer.inside = inside / bytes.length;
    layer.tint ??= new OffscreenCanvas(columns, rows);
    if (layer.tint.width !== columns || layer.tint.height !== rows) layer.tint = new OffscreenCanvas(columns, rows);
    layer.tint.getContext('2d').putImageData(picture, 0, 0);
  }

  draw() {
    const b = this.browser, { canvas } = this, context = canvas.getContext('2d');
    const wide = b.size[this.right], high = b.size[this.up];
    const [left, top] = this.toScreen(-.5, high - .5);
    context.imageSmoothingEnabled = b.scale < 1;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (this.grey) context.drawImage(this.grey, left, top, wide * b.scale, high * b.scale);
    if (b.overlay) {
      for (const name of ['found', 'paint']) {
        const tint = this.layers[name]?.tint;
        if (tint && this.shows(name)) context.drawImage(tint, left, top, wide * b.scale, high * b.scale);
      }
    }
    this.drawCursor(context);
    if (this.name === 'xy') {
      this.drawScaleBar(context);
      if (b.info.paint) this.drawTool(context);
    }
  }

  // What was found is seen where nobody has painted yet.
  shows(name) { return name === 'paint' || !this.browser.info.paint || this.name !== 'xy' || !this.annotated; }

  drawCursor(context) {
    const b = this.browser, [x, y] = this.toScreen(b.at[this.right], b.at[this.up]);
    if (b.three === false) return;
    context.strokeStyle = 'rgba(255, 255, 255, .45)';
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(0, y); context.lineTo(this.canvas.width, y);
    context.moveTo(x, 0); context.lineTo(x, this.canvas.height);
    context.stroke();
  }

  // A bar of round length, a quarter of the picture at most.
  drawScaleBar(context) {
    const { info, scale, ratio } = this.browser, size = info.pixel ? info.pixel / 10 : 1;
    const most = this.canvas.width / 4 / scale * size, decade = 10 ** Math.floor(Math.log10(most));
    const length = [5, 2, 1].map((k) => k * decade).find((n) => n <= most), long = length / size * scale;
    const y = this.canvas.height - 10 * ratio, x = 10 * ratio;
    context.fillStyle = 'rgba(0, 0, 0, .6)';
    context.fillRect(x - 5 * ratio, y - 19 * ratio, Math.max(long, 50 * ratio) + 10 * ratio, 27 * ratio);
    context.fillStyle = 'white';
    context.fillRect(x, y, long, 3 * ratio);
    context.font = `${12 * ratio}px system-ui, sans-serif`;
    context.fillText(`${Number(length.toPrecision(3))} ${info.pixel ? 'nm' : 'voxels'}`, x, y - 4 * ratio);
  }

  // The stroke under the mouse, the points of a line and its way, and the circle of the brush.
  drawTool(context) {
    const b = this.browser, radius = b.radius() * b.scale;
    const trace = (points) => {
      context.beginPath();
      for (const [y, x] of points) context.lineTo(...this.toScreen(x, y));
      context.stroke();
    };
    context.lineJoin = context.lineCap = 'round';
    if (b.points.length && b.tool !== 'line') {
      context.strokeStyle = b.tool === 'eraser' ? 'rgba(255, 255, 255, .4)' : 'rgba(230, 159, 0, .5)';
      context.lineWidth = Math.max(2, 2 * radius);
      trace(b.points.length > 1 ? b.points : [b.points[0], b.points[0]]);
    }
    if (b.tool === 'line' && b.points.length) {
      context.strokeStyle = `rgb(${ORANGE})`;
      context.lineWidth = 2;
      trace(b.way);
      context.setLineDash([4, 4]);
      if (b.mouse) trace([b.points.at(-1), b.mouse]);
      context.setLineDash([]);
      for (const [y, x] of b.points) {
        const [sx, sy] = this.toScreen(x, y);
        context.strokeRect(sx - 3, sy - 3, 6, 6);
      }
    }
    if (b.mouse && b.tool !== 'look') {
      context.strokeStyle = 'white';
      context.lineWidth = 1;
      context.beginPath();
      const [x, y] = this.toScreen(b.mouse[1], b.mouse[0]);
      context.arc(x, y, Math.max(radius, 2), 0, 7);
      context.stroke();
    }
  }
}

class Browser {
  constructor(model, el) {
    this.model = model;
    this.info = model.get('info');
    [this.size, this.centre, this.at] = [{}, {}, {}];
    'zyx'.split('').forEach((axis, i) => {
      this.size[axis] = this.info.shape[i];
      this.centre[axis] = (this.info.shape[i] - 1) / 2;
      this.at[axis] = model.get('at')[i];
    });
    this.threshold = model.get('threshold');
    this.limits = model.get('limits');
    this.opacity = model.get('opacity');
    this.overlay = true;
    this.outline = false;
    this.three = this.info.three;
    this.mean = 1;
    this.scale = 1; // pixels of the screen a voxel
    this.fits = true; // all is seen, until somebody zooms or moves
    this.ratio = window.devicePixelRatio || 1;
    this.tool = this.info.paint ? 'line' : 'look';
    this.points = []; // y, x of the stroke or line that is being drawn
    this.way = [];    // y, x: the line, snapped
    this.mouse = null;
    this.waiting = false; // one request at a time, the newest next
    this.asked = this.answered = 0;
    this.planes = Object.keys(PLANES).map((name) => new Plane(this, name));
    this.root = make('div', { className: 'mb', tabIndex: 0 });
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
    const button = (text, title, act) => make('button', { textContent: text, title, onclick: () => { act(); this.root.focus({ preventScroll: true }); } });
    const check = (name, title) => {
      const box = make('input', { type: 'checkbox', checked: this[name], onchange: () => { this[name] = box.checked; this.recolour(); } });
      box.dataset.name = name;
      this.boxes[name] = box;
      return make('label', { title }, box, name);
    };
    const range = (name, high, step, act) => {
      const slider = make('input', { type: 'range', min: 0, max: high, step, value: this[name], oninput: () => { this[name] = +slider.value; act(); } });
      slider.dataset.name = name;
      return slider;
    };
    this.boxes = {};
    this.grid = make('div', { className: 'mb-planes' });
    this.place = make('div', { className: 'mb-words' });
    this.said = make('div', { className: 'mb-words' });
    this.slider = make('input', { type: 'range', min: 0, max: this.size.z - 1, value: this.at.z, oninput: () => this.go({ z: +this.slider.value }) });
    this.slider.dataset.name = 'z';
    this.number = make('output', {});
    const mean = make('select', { onchange: () => { this.mean = +mean.value; this.ask(); } });
    for (const n of [1, 3, 5, 7, 9]) mean.append(make('option', { value: n, textContent: n }));
    mean.dataset.name = 'mean';
    this.histogram = make('canvas', { className: 'mb-histogram', width: 180, height: 34, title: 'drag a handle: what is shown black, what is shown white' });
    this.threes = button('three planes', 'one plane or three (t)', () => this.toggleThree());
    const bar = make('div', { className: 'mb-bar' },
      make('label', {}, 'z', this.slider, this.number), this.threes,
      make('label', { title: 'show the mean of so many slices' }, 'mean of', mean),
      this.histogram, button('auto', 'contrast of the 1st and 99th percentile', () => this.setLimits(this.info.auto)),
      button('fit', 'see all of it (0); zoom with Ctrl and the wheel, + and -', () => this.fit()));
    if (this.info.found || this.info.paint) {
      bar.append(check('overlay', 'show the mask (o)'), check('outline', 'its edge alone'),
        make('label', {}, 'opacity', range('opacity', 1, .05, () => this.recolour())),
        button('◀', 'the annotated slice before (p)', () => this.jump(-1)), button('▶', 'the next annotated slice (n)', () => this.jump(1)));
    }
    this.root.append(bar);
    if (this.info.found === 'probability') this.root.append(this.thresholdBar(button, range));
    if (this.info.paint) this.root.append(this.paintBar(button));
    this.root.append(this.grid, this.place, this.said);
  }

  thresholdBar(button, range) {
    this.share = make('output', {});
    const slider = range('threshold', 1, .005, () => {
      this.recolour();
      clearTimeout(this.later);
      this.later = setTimeout(() => this.sync('threshold', this.threshold), 150);
    });
    const bar = make('div', { className: 'mb-bar' }, make('label', { title: 'probability from which a voxel is membrane' }, 'threshold', slider), this.share);
    if (this.info.keeps) bar.append(button('keep this threshold', 'write the mask anew with it', () => { this.say('writing the mask ...'); this.model.send({ kind: 'keep', threshold: this.threshold }); }));
    return bar;
  }

  paintBar(button) {
    this.tools = {};
    const bar = make('div', { className: 'mb-bar' });
    const titles = { look: 'move about (m)', line: 'click along a membrane; Enter or a double click ends the line, Backspace takes a point back, Escape all (l)',
      brush: 'paint (b)', eraser: 'paint background (e)' };
    for (const [name, title] of Object.entries(titles)) {
      this.tools[name] = button(name, title, () => this.setTool(name));
      bar.append(this.tools[name]);
    }
    this.kind = make('select');
    this.kind.dataset.name = 'class';
    for (const [name, value] of Object.entries(CLASSES)) this.kind.append(make('option', { value, textContent: name }));
    this.sizes = { line: 4.4, brush: 10, eraser: 16 };
    this.sizeBox = make('input', { type: 'number', min: .5, step: .5, oninput: () => { this.sizes[this.tool] = +this.sizeBox.value; this.draw(); } });
    this.sizeBox.dataset.name = 'size';
    bar.append(make('label', {}, 'as', this.kind), make('label', { title: 'across ([ and ])' }, this.sizeBox, this.info.pixel ? 'nm' : 'voxels'),
      button('undo', 'Ctrl-Z', () => this.model.send({ kind: 'undo' })), button('redo', 'Ctrl-Y', () => this.model.send({ kind: 'redo' })),
      button(this.info.found ? 'take what was found' : 'annotate this slice', 'this slice is annotated as you see it', () => this.model.send({ kind: 'take', z: this.at.z })),
      button('save', 'each stroke is on the disk already; this writes the file anew', () => this.model.send({ kind: 'save' })));
    this.setTool(this.tool);
    return bar;
  }

  setTool(name) {
    this.tool = name;
    this.points = this.way = [];
    for (const [other, button] of Object.entries(this.tools)) button.setAttribute('aria-pressed', other === name);
    this.sizeBox.value = this.sizes[name] ?? '';
    this.sizeBox.disabled = !(name in this.sizes);
    this.draw();
  }

  // Half the size of the tool, in voxels.
  radius() { return (this.sizes[this.tool] ?? 0) / 2 * (this.info.pixel ? 10 / this.info.pixel : 1); }

  // ---- talk with Python
  sync(name, value) { this.model.set(name, value); this.model.save_changes(); }

  listen() {
    this.model.on('msg:custom', (content, buffers) => this[`on_${content.kind}`]?.(content, buffers.map((b) => new Uint8Array(b.buffer, b.byteOffset, b.byteLength))));
    this.model.on('change:at', () => { const [z, y, x] = this.model.get('at'); this.go({ z, y, x }); });
    this.model.on('change:threshold', () => { this.threshold = this.model.get('threshold'); const s = this.root.querySelector('[data-name=threshold]'); if (s) s.value = this.threshold; this.recolour(); });
    this.model.on('change:limits', () => { this.limits = this.model.get('limits'); this.ask(); });
    this.model.on('change:shares change:annotated', () => this.draw());
    this.root.addEventListener('keydown', (event) => this.key(event));
    for (const plane of this.planes) this.listenTo(plane);
    this.histogram.onpointerdown = (event) => this.dragLimit(event);
  }

  // Ask for the planes that are seen. While an answer is under way, only the newest wish is kept.
  ask() {
    this.asked++;
    if (this.waiting) return;
    this.waiting = true;
    this.since ??= performance.now();
    const planes = this.three ? ['xy', 'zy', 'xz'] : ['xy'];
    this.model.send({ kind: 'planes', planes, at: [this.at.z, this.at.y, this.at.x], mean: this.mean, limits: this.limits, number: this.asked });
  }

  async on_planes(content, buffers) {
    let next = 0;
    for (const { plane: name, annotated, layers } of content.planes) {
      const plane = this.planes.find((p) => p.name === name);
      const grey = await createImageBitmap(new Blob([buffers[next++]], { type: 'image/jpeg' }));
      plane.grey = grey;
      plane.annotated = annotated;
      for (const layer of layers) await this.take(plane, layer, buffers[next++]);
    }
    this.draw();
    this.waiting = false;
    this.answered = content.number;
    Object.assign(this.root.dataset, { z: content.at[0], y: content.at[1], x: content.at[2], answered: content.number, ms: Math.round(performance.now() - this.since) });
    this.since = null;
    if (this.asked !== content.number) this.ask();
  }

  // Keep the bytes of a layer and colour them.
  async take(plane, { name, rows, columns }, packed) {
    const bytes = rows ? await unpack(packed) : new Uint8Array();
    plane.layers[name] = { ...plane.layers[name], rows, columns, bytes };
    if (rows) plane.tint(name); else delete plane.layers[name];
  }

  async on_painted({ z, annotated, layer }, buffers) {
    const plane = this.planes[0];
    this.points = this.way = [];
    if (z !== this.at.z) return this.go({ z });
    plane.annotated = annotated;
    await this.take(plane, layer, buffers[0]);
    this.draw();
    if (this.strokeAt) this.root.dataset.strokeMs = Math.round(performance.now() - this.strokeAt);
    this.strokeAt = null;
    this.root.dataset.painted = +(this.root.dataset.painted ?? 0) + 1;
    if (this.three) this.ask();
  }

  on_way({ points, number }) { if (this.tool === 'line' && number === this.points.length) { this.way = points; this.draw(); } }
  on_again() { this.ask(); } // the copy for the planes across z has grown
  on_value({ text }) { this.grey = text; this.words(); }
  on_said({ text, wrong }) { this.say(text, wrong); if (wrong) { this.points = this.way = []; this.draw(); } }

  say(text, wrong = false) { this.said.replaceChildren(make('span', { className: wrong ? 'wrong' : '', textContent: text })); }

  // ---- where we are
  go(to) {
    for (const [axis, value] of Object.entries(to)) this.at[axis] = Math.max(0, Math.min(this.size[axis] - 1, Math.round(value)));
    if ('z' in to) { this.points = this.way = []; }
    const { z, y, x } = this.at, before = this.model.get('at');
    if ([z, y, x].every((n, i) => n === before[i]) && this.shown === `${z} ${y} ${x}`) return;
    this.shown = `${z} ${y} ${x}`;
    this.since ??= performance.now();
    if (![z, y, x].every((n, i) => n === before[i])) this.sync('at', [z, y, x]);
    this.slider.value = z;
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
    const width = Math.max(200, this.root.clientWidth - 8), most = Math.max(240, window.innerHeight * .72);
    const deep = this.three ? Math.max(this.size.z, this.size.x / 6) : 0, tall = this.three ? Math.max(this.size.z, this.size.y / 6) : 0;
    const scale = Math.min(width / (this.size.x + deep), most / (this.size.y + tall));
    const sizes = { xy: [this.size.x, this.size.y], zy: [deep, this.size.y], xz: [this.size.x, tall] };
    this.grid.style.gridTemplateColumns = this.three ? 'auto auto' : 'auto';
    this.grid.replaceChildren(...this.planes.filter((p) => this.three || p.name === 'xy').map((p) => p.canvas));
    for (const plane of this.planes) {
      const [w, h] = sizes[plane.name].map((n) => Math.max(24, Math.floor(n * scale)));
      Object.assign(plane.canvas, { width: w * this.ratio, height: h * this.ratio });
      Object.assign(plane.canvas.style, { width: `${w}px`, height: `${h}px` });
    }
    this.fitted = scale * this.ratio;
    if (this.fits) {
      this.scale = this.fitted;
      for (const axis of 'xyz') this.centre[axis] = (this.size[axis] - 1) / 2;
    }
    this.threes.setAttribute('aria-pressed', this.three);
    this.draw();
  }

  fit() { this.fits = true; this.layout(); }

  zoom(factor, plane = this.planes[0], place = null) {
    const [u, v] = place ?? [this.centre[plane.right], this.centre[plane.up]], before = this.scale;
    this.fits = false;
    this.scale = Math.max(this.fitted / 2, Math.min(40 * this.ratio, this.scale * factor));
    const moved = 1 - before / this.scale; // the voxel under the mouse stays there
    this.centre[plane.right] += (u - this.centre[plane.right]) * moved;
    this.centre[plane.up] += (v - this.centre[plane.up]) * moved;
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
    this.number.textContent = `${this.at.z} of ${this.size.z}`;
    this.root.dataset.drawn = +(this.root.dataset.drawn ?? 0) + 1;
  }

  words() {
    const { z, y, x } = this.at, [v, u] = this.mouse ?? [y, x], nm = this.info.pixel / 10;
    const place = nm ? `   x ${(u * nm).toFixed(1)}, y ${(v * nm).toFixed(1)}, z ${(z * nm).toFixed(1)} nm` : '';
    this.place.textContent = `voxel x ${Math.round(u)}, y ${Math.round(v)}, z ${z}${place}   ${this.grey ? `grey value ${this.grey}` : ''}`;
    if (!this.share) return;
    const here = this.planes[0].layers.found?.inside ?? 0, all = this.model.get('shares')[Math.max(1, Math.round(this.threshold * STEPS))];
    this.share.textContent = `${this.threshold.toFixed(3)}: ${(100 * here).toFixed(2)} % of this slice is membrane` + (all === undefined ? '' : `, ${(100 * all).toFixed(2)} % of all`);
  }

  // ---- contrast
  drawHistogram() {
    const context = this.histogram.getContext('2d'), { counts, low, high } = this.info.histogram;
    const { width, height } = this.histogram, most = Math.max(...counts);
    context.clearRect(0, 0, width, height);
    context.fillStyle = '#999';
    counts.forEach((n, i) => context.fillRect(i * width / counts.length, height, Math.ceil(width / counts.length), -height * n / most));
    context.fillStyle = '#d55e00';
    for (const limit of this.limits) context.fillRect((limit - low) / (high - low) * width - 1.5, 0, 3, height);
  }

  setLimits(limits) {
    this.limits = limits;
    this.since ??= performance.now();
    this.ask();
    clearTimeout(this.lateLimits);
    this.lateLimits = setTimeout(() => this.sync('limits', limits), 150);
  }

  dragLimit(event) {
    const { low, high } = this.info.histogram, box = this.histogram.getBoundingClientRect();
    const grey = (e) => low + Math.max(0, Math.min(1, (e.clientX - box.left) / box.width)) * (high - low);
    const which = Math.abs(grey(event) - this.limits[0]) < Math.abs(grey(event) - this.limits[1]) ? 0 : 1;
    const move = (e) => {
      const limits = [...this.limits];
      limits[which] = grey(e);
      if (limits[0] < limits[1]) this.setLimits(limits);
    };
    this.histogram.setPointerCapture(event.pointerId);
    this.histogram.onpointermove = move;
    this.histogram.onpointerup = () => { this.histogram.onpointermove = null; };
    move(event);
  }

  // ---- the mouse
  listenTo(plane) {
    const { canvas } = plane;
    canvas.addEventListener('wheel', (event) => {
      event.preventDefault();
      if (event.ctrlKey || event.metaKey) return this.zoom(event.deltaY < 0 ? 1.25 : .8, plane, plane.toVoxel(event));
      this.go({ [plane.through]: this.at[plane.through] - Math.sign(event.deltaY) });
    }, { passive: false });
    canvas.addEventListener('pointerdown', (event) => this.down(plane, event));
    canvas.addEventListener('dblclick', () => this.endLine());
    canvas.addEventListener('contextmenu', (event) => event.preventDefault());
    canvas.addEventListener('pointermove', (event) => this.hover(plane, event));
    canvas.addEventListener('pointerleave', () => { this.mouse = null; this.draw(); });
  }

  down(plane, event) {
    this.root.focus({ preventScroll: true });
    const [u, v] = plane.toVoxel(event), paints = plane.name === 'xy' && event.button === 0 && !event.shiftKey;
    plane.canvas.setPointerCapture(event.pointerId);
    if (paints && this.tool === 'line') return this.addPoint([v, u]);
    if (paints && this.tool !== 'look') return this.dragStroke(plane, [v, u]);
    this.dragView(plane, event, [u, v]);
  }

  // A drag moves the picture; a click that does not move sets the cursor of the other planes.
  dragView(plane, event, [u, v]) {
    let moved = false;
    const start = [event.clientX, event.clientY];
    plane.canvas.onpointermove = (e) => {
      moved ||= Math.hypot(e.clientX - start[0], e.clientY - start[1]) > 3;
      if (!moved) return;
      this.fits = false;
      this.centre[plane.right] -= e.movementX * this.ratio / this.scale;
      this.centre[plane.up] += e.movementY * this.ratio / this.scale;
      this.draw();
    };
    plane.canvas.onpointerup = () => {
      plane.canvas.onpointermove = plane.canvas.onpointerup = null;
      if (!moved) this.go({ [plane.right]: u, [plane.up]: v });
    };
  }

  dragStroke(plane, point) {
    this.points = [point];
    plane.canvas.onpointermove = (e) => {
      for (const one of e.getCoalescedEvents?.() ?? [e]) { const [u, v] = plane.toVoxel(one); this.points.push([v, u]); }
      this.draw();
    };
    plane.canvas.onpointerup = () => {
      plane.canvas.onpointermove = plane.canvas.onpointerup = null;
      this.strokeAt = performance.now();
      const value = this.tool === 'eraser' ? 0 : +this.kind.value;
      this.model.send({ kind: 'stroke', z: this.at.z, points: this.points, size: this.sizes[this.tool], value });
    };
    this.draw();
  }

  addPoint(point) {
    const last = this.points.at(-1);
    if (last && Math.hypot(point[0] - last[0], point[1] - last[1]) * this.scale < 3) return; // the second half of a double click
    this.points = [...this.points, point];
    this.snap();
  }

  snap() {
    this.way = this.points;
    this.draw();
    if (this.points.length > 1) this.model.send({ kind: 'way', z: this.at.z, points: this.points });
  }

  endLine() {
    if (this.tool !== 'line' || this.points.length < 2) return;
    this.strokeAt = performance.now();
    this.model.send({ kind: 'line', z: this.at.z, points: this.points, size: this.sizes.line, value: +this.kind.value });
  }

  hover(plane, event) {
    const [u, v] = plane.toVoxel(event);
    if (plane.name !== 'xy') return;
    this.mouse = [v, u];
    const inside = u > -.5 && v > -.5 && u < this.size.x - .5 && v < this.size.y - .5;
    if (!inside) this.grey = '';
    else if (!this.valueLater) {
      this.valueLater = setTimeout(() => {
        this.valueLater = null;
        if (this.mouse) this.model.send({ kind: 'value', at: [this.at.z, ...this.mouse.map(Math.round)] });
      }, 60);
    }
    if (this.info.paint) this.draw(); else this.words();
  }

  // ---- keys
  key(event) {
    if (event.target.matches('input[type=number], select')) return;
    const z = this.at.z, control = event.ctrlKey || event.metaKey;
    const press = (box) => { if (this.boxes[box]) { this.boxes[box].checked = this[box] = !this[box]; this.recolour(); } };
    const acts = {
      ArrowUp: () => this.go({ z: z + 1 }), ArrowRight: () => this.go({ z: z + 1 }), PageUp: () => this.go({ z: z + 10 }), End: () => this.go({ z: this.size.z - 1 }),
      ArrowDown: () => this.go({ z: z - 1 }), ArrowLeft: () => this.go({ z: z - 1 }), PageDown: () => this.go({ z: z - 10 }), Home: () => this.go({ z: 0 }),
      '+': () => this.zoom(1.25), '-': () => this.zoom(.8), 0: () => this.fit(),
      t: () => this.toggleThree(), o: () => press('overlay'), n: () => this.jump(1), p: () => this.jump(-1),
    };
    if (this.info.paint) {
      Object.assign(acts, {
        m: () => this.setTool('look'), l: () => this.setTool('line'), b: () => this.setTool('brush'), e: () => this.setTool('eraser'),
        '[': () => this.resize(1 / 1.25), ']': () => this.resize(1.25),
        Enter: () => this.endLine(), Escape: () => { this.points = this.way = []; this.draw(); },
        Backspace: () => { this.points = this.points.slice(0, -1); this.snap(); },
      });
      if (control) Object.assign(acts, { z: () => this.model.send({ kind: event.shiftKey ? 'redo' : 'undo' }), y: () => this.model.send({ kind: 'redo' }), s: () => this.model.send({ kind: 'save' }) });
    }
    const act = acts[control && event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || (control && !'zys'.includes(event.key.toLowerCase()))) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  resize(factor) {
    if (!(this.tool in this.sizes)) return;
    this.sizes[this.tool] = Math.round(10 * this.sizes[this.tool] * factor) / 10;
    this.sizeBox.value = this.sizes[this.tool];
    this.draw();
  }
}

export default { render({ model, el }) { new Browser(model, el); } };
