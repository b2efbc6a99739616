"The last words of `make demo`: what was found, and where it lies."
import json
from pathlib import Path

run, result = Path('output/demo'), Path('output/demo_membranes')
card = json.loads((run/'card.json').read_text())
held_out = json.loads((result/'scores.json').read_text())
show = lambda s: ', '.join(f'{name} {value:.3f}' for name, value in s.items())
print(f"""
test phantom       {show(card['scores']['test'])}
held-out phantom   {show(held_out)}   (threshold {card['threshold']}, chosen on validation)

executed notebooks output/demo_train.ipynb, output/demo_infer.ipynb
network            {', '.join(str(run/n) for n in ('weights.safetensors', 'card.json'))}
segmentation       {', '.join(str(result/n) for n in ('prob.mrc', 'mask.mrc'))}
pictures           {', '.join(str(p) for p in sorted([*run.glob('*.png'), *result.glob('*.png')]))}""")
