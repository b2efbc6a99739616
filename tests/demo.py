"The last words of `make demo`: what was found, and where it lies."
import json
from pathlib import Path

run, result, shipped = Path('output/demo'), Path('output/demo_membranes'), Path('output/demo_shipped_membranes')
card = json.loads((run/'card.json').read_text())
held_out, by_shipped = (json.loads((folder/'scores.json').read_text()) for folder in (result, shipped))
threshold = json.loads(Path('output/pretrained/card.json').read_text())['threshold']
show = lambda s: ', '.join(f'{name} {value:.3f}' for name, value in s.items())
print(f"""
test phantom       {show(card['scores']['test'])}
held-out phantom   {show(held_out)}   (threshold {card['threshold']}, chosen on validation)
  shipped weights  {show(by_shipped)}   (threshold {threshold}, of their card)

executed notebooks output/demo_train.ipynb, output/demo_infer.ipynb, output/demo_shipped.ipynb
network            {', '.join(str(run/n) for n in ('weights.safetensors', 'card.json'))}
segmentations      {', '.join(str(folder/n) for folder in (result, shipped) for n in ('prob.mrc', 'mask.mrc'))}
pictures           {', '.join(str(p) for p in sorted([*run.glob('*.png'), *result.glob('*.png'), *shipped.glob('*.png')]))}""")
