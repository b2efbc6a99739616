"A small CryoET Data Portal on this machine: answers the client by the client's own schema, and gives out files in ranges."
import json, re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import cryoet_data_portal
import numpy as np
import zarr
from graphql import GraphQLEnumType, GraphQLNonNull, build_schema, graphql_sync
from membrane_nb.mrc import write_mrc
from membrane_nb.plain import phantom
from membrane_nb.pyramid import write_zarr

DATE = '2024-05-01T00:00:00+00:00'
ZEROS = dict(ID='0', Int=0, Float=0., String='', Boolean=False, DateTime=DATE)


class Portal:
    "A portal with one run, 14122, of one phantom; `tables` holds what it answers, and may be changed."
    def __init__(self, folder):
        self.folder = Path(folder)
        schema = Path(cryoet_data_portal.__file__).parent/'data'/'schema.graphql'
        self.schema = build_schema(schema.read_text())
        self.cuts = []     # bytes after which the next answers break off
        self.ranges = True # whether the server knows ranges
        self.asked = []    # files that were asked for, and from which byte
        self.server = ThreadingHTTPServer(('127.0.0.1', 0), type('Handler', (Handler,), dict(portal=self)))
        self.url = f'http://127.0.0.1:{self.server.server_port}'
        Thread(target=self.server.serve_forever, daemon=True).start()
        vol, msk, pixel = phantom((24, 96, 80), seed=3)
        write_mrc(self.folder/'tomo.mrc', vol, pixel)
        write_mrc(self.folder/'mask.mrc', msk.astype(np.int8), pixel)
        write_zarr(self.folder/'tomo.zarr', vol, pixel)
        store = zarr.open_group(self.folder/'tomo.zarr', mode='a', zarr_format=2)
        for level in (1, 2): store.create_array(str(level), data=np.ascontiguousarray(vol[::2**level, ::2**level, ::2**level]))
        self.tables = dict(runs=[dict(id=14122, name='Position_1', datasetId=10301)], tomograms=[], annotations=[], annotationShapes=[],
                           annotationFiles=[], annotationAuthors=[], shape=vol.shape, pixel=pixel)
        self.add_tomogram(101, isVisualizationDefault=True)
        self.add_annotation(7)

    def add_tomogram(self, id, **more):
        "A tomogram of the run, of the one file that there is."
        z, y, x = self.tables['shape']
        row = dict(id=id, runId=14122, alignmentId=1, tomogramVoxelSpacingId=1, sizeX=x, sizeY=y, sizeZ=z, voxelSpacing=self.tables['pixel'], processing='raw',
                   reconstructionMethod='WBP', httpsMrcFile=f'{self.url}/tomo.mrc', httpsOmezarrDir=f'{self.url}/tomo.zarr', fileSizeMrc=self.size('tomo.mrc'))
        self.tables['tomograms'].append(row | more)

    def add_annotation(self, id, file={}, **more):
        "A mask of membrane that lies on the tomograms of alignment 1 and voxel spacing 1."
        row = dict(id=id, runId=14122, objectName='membrane', objectId='GO:0016020', methodType='manual', groundTruthStatus=True, annotationSoftware='')
        self.tables['annotations'].append(row | more)
        self.tables['annotationShapes'].append(dict(id=10 * id, annotationId=id, shapeType='SegmentationMask'))
        row = dict(id=100 * id, annotationShapeId=10 * id, alignmentId=1, tomogramVoxelSpacingId=1, format='mrc', httpsPath=f'{self.url}/mask.mrc', fileSize=self.size('mask.mrc'))
        self.tables['annotationFiles'].append(row | file)
        self.tables['annotationAuthors'] += [dict(id=id, annotationId=id, name=name, authorListOrder=i) for i, name in ((2, 'C. Dee'), (1, 'A. Bee'))]

    def size(self, name): return float((self.folder/name).stat().st_size)

    def answer(self, question):
        "What the portal says to a question of GraphQL."
        root = {name: lambda info, where=None, name=name, **_: self.rows(info, name, where) for name in self.schema.query_type.fields}
        done = graphql_sync(self.schema, question['query'], root, variable_values=question.get('variables'))
        if done.errors: raise done.errors[0]
        return dict(data=done.data)

    def rows(self, info, table, where):
        "The rows that a question wants, with something in every field that may not be empty."
        fields = info.schema.query_type.fields[table].type.of_type.of_type.of_type.fields
        kinds = {name: field.type.of_type for name, field in fields.items() if isinstance(field.type, GraphQLNonNull)}
        empty = {name: next(iter(kind.values)) if isinstance(kind, GraphQLEnumType) else ZEROS.get(kind.name) for name, kind in kinds.items()}
        fits = lambda row: all(row.get(name) in rule['_in'] for name, rule in (where or {}).items())
        return [empty | row for row in self.tables.get(table, []) if fits(row)]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *words): pass

    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        body = json.dumps(self.portal.answer(question)).encode()
        self.send_response(200)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self): self.do_GET(head=True)

    def do_GET(self, head=False):
        "A file, from the byte on that is asked for; `cuts` breaks the answer off."
        path = self.portal.folder/self.path.lstrip('/')
        if not path.is_file(): return self.send_error(404)
        body = path.read_bytes()
        total = len(body)
        wanted = re.match(r'bytes=(\d+)-(\d*)', self.headers.get('Range', '')) if self.portal.ranges else None
        start, stop = (int(wanted[1]), int(wanted[2] or total - 1) + 1) if wanted else (0, total)
        body = body[start:stop]
        if path.suffix == '.mrc': self.portal.asked.append((path.name, start))
        self.send_response(206 if wanted else 200)
        if wanted: self.send_header('Content-Range', f'bytes {start}-{start + len(body) - 1}/{total}')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        cut = self.portal.cuts.pop(0) if self.portal.cuts and path.suffix == '.mrc' else None
        if not head: self.wfile.write(body[:cut])
        if cut is not None: self.close_connection = True
