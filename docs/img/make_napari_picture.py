"""Makes the picture of napari: ``python docs/img/make_napari_picture.py PYTHON``, of an environment with it.

``pip install 'napari[pyqt6]' napari-nninteractive napari-nifti`` there; here Xvfb. The scan is the page's.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import SimpleITK as sitk
from make_scan_picture import THICK, scan
from PIL import Image

HERE = Path(__file__).parent
BOX = (24, 69, 121, 180, 229)
"""Around the liver: slice, top, left, bottom, right; napari-nifti turns rows and columns round."""

DRIVE = """
import sys
import time

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

path, address, out = sys.argv[1:4]
place, top, left, bottom, right = map(int, sys.argv[4:])
viewer = napari.Viewer(show=True)
viewer.open(path, plugin="napari-nifti")
viewer.layers[0].name = "scan"
viewer.layers[0].contrast_limits = (-160, 240)
dock, plugin = viewer.window.add_plugin_dock_widget("napari-nninteractive", "nnInteractive")
viewer.window._qt_window.resize(1280, 800)


def wait(ready, seconds=120):
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until
        QApplication.processEvents()
        time.sleep(0.02)


plugin.server_url_edit.setText(address)
plugin.on_init()
wait(lambda: plugin.label_layer_name in viewer.layers and plugin.init_button.isEnabled())
wait(lambda: not plugin.session is None)
world = viewer.layers["scan"].data_to_world((place, top, left))
viewer.dims.set_point(0, world[0])
plugin.interaction_button._check(1)
plugin.on_interaction_selected()
layer = viewer.layers[plugin.layer_dict[1]]
corners = [[place, y, x] for y, x in ((top, left), (top, right), (bottom, right), (bottom, left))]
layer.add([np.array(corners, float)], shape_type="rectangle")
wait(lambda: viewer.layers[plugin.label_layer_name].data.any())
label = viewer.layers[plugin.label_layer_name]
label.opacity, layer.opacity = 0.6, 0.35
label.colormap = napari.utils.colormaps.DirectLabelColormap(color_dict={None: "transparent", 1: "#ffb000"})
viewer.layers.selection = {label}
viewer.reset_view()
viewer.camera.zoom *= 1.15
viewer.dims.set_point(0, world[0])
until = time.monotonic() + 3
wait(lambda: time.monotonic() > until)
viewer.window.screenshot(out, canvas_only=False, flash=False)
print("slice", viewer.dims.current_step, "voxels there", int((np.asarray(label.data)[place] > 0).sum()))
"""


def main(python: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        image = sitk.GetImageFromArray(scan())
        image.SetSpacing((1.4, 1.4, THICK))
        path = Path(folder, "scan.nii.gz")
        sitk.WriteImage(image, str(path))
        command = [sys.executable, "-m", "synthfm.evaluation.cli", "serve", "--port", "0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[0]
            words = [str(path), address, str(HERE / "napari.png"), *map(str, BOX)]
            screen = ["xvfb-run", "-a", "-s", "-screen 0 1280x800x24"]
            subprocess.run([*screen, python, "-c", DRIVE, *words], check=True)
            whole = Image.open(HERE / "napari.png").convert("RGB")
            whole.quantize(96).save(HERE / "napari.png", optimize=True)
        finally:
            server.terminate()


if __name__ == "__main__":
    main(sys.argv[1])
