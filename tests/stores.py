"OME-Zarr stores as others write them, with the zarr package alone."
import zarr


def axes(names, unit='angstrom'):
    kinds = dict(t='time', c='channel')
    return [dict(name=n, type=kinds.get(n, 'space'), **(dict(unit=unit) if unit and n not in kinds else {})) for n in names]


def stored(place, data, version='0.4', names='zyx', unit='angstrom', scale=None, shift=None, top=(), name='0', **kind):
    "A store as others write it, with the zarr package alone."
    steps = [dict(type='scale', scale=scale or [1.] * (data.ndim - 3) + [8.] * 3)]
    if shift: steps.append(dict(type='translation', translation=shift))
    image = dict(axes=axes(names, unit), datasets=[dict(path=name, coordinateTransformations=steps)])
    if top: image |= dict(coordinateTransformations=list(top))
    if version == '0.4': attrs, number = dict(multiscales=[image | dict(version='0.4')]), 2
    else: attrs, number = dict(ome=dict(version='0.5', multiscales=[image])), 3
    group = zarr.create_group(place, zarr_format=number, attributes=attrs, overwrite=True)
    array = group.create_array(name, shape=data.shape, dtype=data.dtype, **(dict(chunks=(1,) * (data.ndim - 3) + (8, 32, 32)) | kind))
    array[...] = data
    return place
