"The last words of `make demo`: what was found, and where it lies."
import json
from pathlib import Path

demo = Path('build/demo')
run, result, shipped = demo/'network', demo/'membranes', demo/'shipped_membranes'
card = json.loads((run/'card.json').read_text())
held_out, by_shipped = (json.loads((folder/'segmentation.json').read_text()) for folder in (result, shipped))
show = lambda s: ', '.join(f'{name} {value:.3f}' for name, value in s.items())
print(f"""
test phantom       {show(card['scores']['test'])}
held-out phantom   {show(held_out['scores'])}   (threshold {held_out['threshold']}, chosen on validation)
  shipped weights  {show(by_shipped['scores'])}   (threshold {by_shipped['threshold']}, of their card)

executed notebooks {', '.join(str(p) for p in sorted(demo.glob('*.ipynb')))}
network            {', '.join(str(run/n) for n in ('weights.safetensors', 'card.json', 'provenance.json'))}
segmentations      {', '.join(str(folder/n) for folder in (result, shipped) for n in ('prob.mrc', 'mask.mrc', 'segmentation.json'))}
pictures           {', '.join(str(p) for p in sorted(demo.glob('*/*.png')))}""")
