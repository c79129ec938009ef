"""A window that shows images while they are made."""

from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hrpose.errors import UserError


class Window:
    """A window with Python's own Tk; the headless OpenCV that hrpose uses has none.

    Raises UserError where there is no display, or Python came without Tk.
    """

    def __init__(self, title: str) -> None:
        try:
            import tkinter
        except ImportError as error:
            raise UserError(
                "--show: needs Python's tkinter, found none; install it (Debian: python3-tk) or "
                "leave --show away"
            ) from error
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise UserError(f"--show: needs a display ({error}); leave --show away") from error
        self.open = True
        self._root.title(title)
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._root.protocol("WM_DELETE_WINDOW", self._closed)
        for key in ("<Escape>", "q"):
            self._root.bind(key, lambda _: self._closed())

    def show(self, image: NDArray[np.uint8]) -> bool:
        """Show an (h, w, 3) uint8 RGB image, made smaller to fit; False once it was closed."""
        from PIL import ImageTk

        if self.open:
            scaled = Image.fromarray(image)
            screen = self._root.winfo_screenwidth(), self._root.winfo_screenheight()
            scaled.thumbnail((screen[0] * 9 // 10, screen[1] * 9 // 10))
            # Tk does not hold on to an image that it shows.
            self._shown = ImageTk.PhotoImage(scaled, master=self._root)
            self._label.configure(image=self._shown)
            self._root.update()
        return self.open

    def _closed(self) -> None:
        self.open = False

    def __enter__(self) -> "Window":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._root.destroy()
