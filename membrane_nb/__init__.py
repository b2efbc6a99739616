"""Find membranes in cryo-electron tomograms: what a user needs, under one name.

This file is written by hand; nbdev keeps the line of the version. All other modules come from the notebooks in nbs/.
"""
__version__ = "0.2.0"

from importlib import import_module

_ROOMS = dict( # name to the module that it comes from, which is loaded when the name is used
    open_tomogram='data', segment='infer', segment_many='many', train='training', measure='measuring', phantom='plain',
    fetch='portal', annotate='browser', export='handover', convert='drawn',
    browse='browser', show_slices='view', show_ortho='view', show_surface='view',
    scores='metrics', Tomo='data', InputError='checks')

__all__ = [*_ROOMS]

def __getattr__(name):
    "A name of the front door: its module is loaded now."
    if name not in _ROOMS: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'.{_ROOMS[name]}', __name__), name)

def __dir__():
    "What `membrane_nb.` offers."
    return sorted([*_ROOMS, '__version__'])
