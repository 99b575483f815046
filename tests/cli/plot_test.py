"""The program's `plot`: what it draws, and what it leaves alone."""

import fcntl
import math
import os
import random
import unittest
import xml.etree.ElementTree

from program import ProgramTest


class PlotTest(ProgramTest):
    def log(self, values, name="log.jsonl", steps=None):
        path = self.folder / name
        steps = steps or range(1, len(values) + 1)
        path.write_text("".join(f'{{"step": {step}, "loss": {value!r}}}\n' for step, value in zip(steps, values)))
        return path

    def drawing(self, log):
        """Ticks of the drawing, texts by position, and the points of its line; no coordinate is undefined."""
        self.run_program("plot", log, "-o", self.folder / "out.svg")
        root = xml.etree.ElementTree.parse(self.folder / "out.svg").getroot()
        for element in root.iter():
            for value in (*element.attrib.values(), element.text or ""):
                self.assertFalse("nan" in value or "inf" in value, value)
        texts = [element for element in root if element.tag.endswith("text")]
        points = [tuple(map(float, point.split(","))) for point in root[-1].attrib["points"].split()]
        ticks = {kind: [(float(t.text), t) for t in texts if t.get("text-anchor") == kind] for kind in ("end", "middle")}
        return ticks["end"], ticks["middle"], points

    def test_a_mean_beside_the_range_by_rounding_is_drawn_inside(self):
        # Means of equal numbers round to a neighbour of the number, above the greatest or below the least.
        draw = random.Random(0)
        for value in [0.1, 1 / 3, 2.675, *(draw.random() * 10 for _ in range(8))]:
            for count in (3, 65, 200, 448):
                rows = self.run_program("plot", self.log([value] * count + [value + 1e-16])).splitlines()[1:]
                self.assertGreater(sum(row.count("*") for row in rows), 0)

    def test_flat_and_extreme_columns_have_a_place(self):
        for values in ([2.5], [2.5, 2.5], [0.0, 0.0], [1e308, -1e308], [1e300, 1e300], [5e-324, 0.0], [-1e-320, 1e-320]):
            with self.subTest(values=values):
                log = self.log(values)
                self.run_program("plot", log)
                ticks, _, points = self.drawing(log)
                self.assertEqual(len(points), len(values))
                for _, height in points:
                    self.assertTrue(30 <= height <= 200, height)

    def test_ticks_are_round_numbers_at_their_place(self):
        vertical, horizontal, points = self.drawing(self.log([0.37, 3.91], steps=[3, 47]))
        self.assertEqual([value for value, _ in vertical], [1, 2, 3])
        self.assertEqual([value for value, _ in horizontal], [20, 40])
        (left, bottom), (right, top) = points
        for value, text in horizontal:
            self.assertAlmostEqual(float(text.get("x")), left + (value - 3) / 44 * (right - left), delta=0.01)
        for value, text in vertical:
            self.assertAlmostEqual(float(text.get("y")) - 4, bottom + (value - 0.37) / 3.54 * (top - bottom), delta=0.01)

    def test_ticks_close_together_are_told_apart(self):
        vertical, _, _ = self.drawing(self.log([1_000_001.0, 1_000_004.0]))
        values = [value for value, _ in vertical]
        self.assertEqual(values, sorted(set(values)))
        self.assertTrue(all(math.isclose(value % 1, 0) for value in values), values)

    def test_the_folder_of_the_drawing_is_left_alone(self):
        output = self.folder / "run"
        output.mkdir()
        saved, written, abandoned = (
            output / name for name in (".saving-1-0-model.safetensors", ".writing-1-0-log.svg", ".writing-2-0-log.svg")
        )
        for other in (saved, written, abandoned):
            other.write_text("another process is at it")
        with open(written) as file:
            # Whoever writes a file holds its lock; what nobody holds has been left behind.
            fcntl.flock(file, fcntl.LOCK_EX)
            self.run_program("plot", self.log([1.0, 2.0]), "-o", output / "log.svg")
        self.assertEqual({path.name for path in output.iterdir()}, {saved.name, written.name, "log.svg"})

    def test_what_is_no_log_is_refused_at_once(self):
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        for path, what in ((pipe, "pipe"), ("/dev/zero", "device"), (self.folder, "folder")):
            self.assert_fails("plot", path, says=(str(path), what))

    def test_what_is_no_drawing_is_not_overwritten(self):
        log = self.log([1.0, 2.0])
        self.assert_fails("plot", log, "-o", log, says=("log.jsonl", "SVG"))
        self.assert_fails("plot", log, "-o", "/dev/null", says=("/dev/null",))
        self.assertEqual(len(log.read_text().splitlines()), 2)
        self.drawing(log)
        self.drawing(log)


if __name__ == "__main__":
    unittest.main()
