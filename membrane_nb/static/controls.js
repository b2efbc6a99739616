// The keys, buttons and sliders of the browser of toolbox/42_browser; what they do is in `browser.js`.

// Keys, and the name of what they do; a button does what its name says, too.
const KEYS = {
  ArrowUp: 'up', ArrowRight: 'up', PageUp: 'far up', End: 'last',
  ArrowDown: 'down', ArrowLeft: 'down', PageDown: 'far down', Home: 'first',
  '+': 'nearer', '-': 'farther', 0: 'fit', t: 'three', o: 'overlay', n: 'next', p: 'before',
};
const PAINT_KEYS = {
  m: 'look', l: 'line', b: 'brush', e: 'eraser', '[': 'smaller', ']': 'larger',
  Enter: 'end', Escape: 'drop', Backspace: 'back',
  'Control z': 'undo', 'Control y': 'redo', 'Control Shift z': 'redo', 'Control s': 'save',
};

const LOOK_BAR = `
  <label>z <input type="range" name="z"> <output name="number"></output></label>
  <button name="three" title="one plane or three (t)">three planes</button>
  <label title="show the mean of so many slices">mean of
    <select name="mean"><option>1<option>3<option>5<option>7<option>9</select></label>
  <canvas class="mb-histogram" width="180" height="34" title="drag a handle: what is shown black, what is shown white"></canvas>
  <button name="auto" title="contrast of the 1st and 99th percentile">auto</button>
  <button name="fit" title="see all of it (0); zoom with Ctrl and the wheel, + and -">fit</button>`;
const MASK_BAR = `
  <label title="show the mask (o)"><input type="checkbox" name="overlay" checked>overlay</label>
  <label title="its edge alone"><input type="checkbox" name="outline">outline</label>
  <label>opacity <input type="range" name="opacity" max="1" step=".05"></label>
  <button name="before" title="the annotated slice before (p)">◀</button>
  <button name="next" title="the next annotated slice (n)">▶</button>`;
const THRESHOLD_BAR = `
  <label title="probability from which a voxel is membrane">threshold
    <input type="range" name="threshold" max="1" step=".005"></label>
  <output name="share"></output>
  <button name="keep" title="write the mask anew with it">keep this threshold</button>`;
const PAINT_BAR = `
  <button name="look" title="move about (m)">look</button>
  <button name="line" title="click along a membrane; Enter or a double click ends the line, Backspace takes a point back, Escape all (l)">
    line</button>
  <button name="brush" title="paint (b)">brush</button>
  <button name="eraser" title="paint background (e)">eraser</button>
  <label>as <select name="class">
    <option value="1">membrane<option value="0">background<option value="2">not annotated</select></label>
  <label title="across ([ and ])"><input type="number" name="size" min=".5" step=".5"> <output name="unit"></output></label>
  <button name="undo" title="Ctrl-Z">undo</button>
  <button name="redo" title="Ctrl-Y">redo</button>
  <button name="take" title="this slice is annotated as you see it">annotate this slice</button>
  <button name="save" title="each stroke is on the disk already; this writes the file anew">save</button>`;
