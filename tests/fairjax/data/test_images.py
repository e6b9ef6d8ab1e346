"""Image files as one memory-mapped array: pixels, resizing, what cannot be read, and interrupted conversions."""

import os

import numpy as np
import pytest

from fairjax.data import images
from fairjax.data.images import UnreadableImage, decode_images

Image = pytest.importorskip("PIL.Image", reason="reading images needs Pillow, the extra images")


def made(folder, count=5, shape=(6, 8)):
    """Write images of one colour each, and return their names."""
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return [f"{i}.png" for i in range(count)]


@pytest.fixture
def faces(tmp_path):
    """Return a folder of images, their names, and a folder for arrays."""
    folder = tmp_path / "faces"
    folder.mkdir()
    return folder, made(folder), tmp_path / "cache"


def test_pixels_are_those_of_the_files_and_are_memory_mapped(faces):
    folder, names, cache = faces
    decoded = decode_images(folder, names, cache=cache)
    assert decoded.pixels.shape == (5, 6, 8, 3) and decoded.pixels.dtype == np.uint8
    assert isinstance(decoded.pixels, np.memmap) and decoded.files == (0, 1, 2, 3, 4)
    for name, pixels in zip(names, decoded.pixels, strict=True):
        np.testing.assert_array_equal(pixels, np.asarray(Image.open(folder / name)))


def test_an_array_is_made_once_and_again_when_a_file_changes(faces, monkeypatch):
    folder, names, cache = faces
    decode_images(folder, names, cache=cache)
    calls = []
    decode = images._Job._decoded
    monkeypatch.setattr(images._Job, "_decoded", lambda job, number: calls.append(number) or decode(job, number))
    decode_images(folder, names, cache=cache)
    assert not calls
    os.utime(folder / "3.png", (1, 1))
    decode_images(folder, names, cache=cache)
    assert sorted(calls) == [0, 1, 2, 3, 4]
    decode_images(folder, names, cache=cache, colours="grey")
    assert len(calls) == 10


def test_images_are_cropped_to_a_shape_and_resized(tmp_path):
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 200  # the centre
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(np.full((8, 4, 3), 50, np.uint8)).save(tmp_path / "high.png")
    decoded = decode_images(tmp_path, ["wide.png", "high.png"], size=4, colours="grey", cache=tmp_path / "cache")
    assert decoded.pixels.shape == (2, 4, 4, 1)
    assert (decoded.pixels[0, :, 1:3] == 200).all() and (decoded.pixels[1] == 50).all()


def test_an_image_is_turned_as_its_orientation_says(tmp_path):
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn
    image.save(tmp_path / "turned.png", exif=exif)
    decoded = decode_images(tmp_path, ["turned.png"], colours="grey", cache=tmp_path / "cache")
    np.testing.assert_array_equal(decoded.pixels[0, :, :, 0], np.rot90(np.asarray(image), -1))


def test_an_image_that_cannot_be_decoded_is_named_and_skipped_only_on_request(faces):
    folder, names, cache = faces
    expected = decode_images(folder, names, cache=cache).pixels[[0, 1, 3, 4]]
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:60])
    for _ in range(2):
        with pytest.raises(UnreadableImage, match=r"2\.png cannot be decoded: .*on_unreadable=\"skip\"") as refused:
            decode_images(folder, names, cache=cache)
        assert "\n" not in str(refused.value)
    decoded = decode_images(folder, names, cache=cache, on_unreadable="skip")
    assert decoded.files == (0, 1, 3, 4)
    np.testing.assert_array_equal(decoded.pixels, expected)
    with pytest.raises(UnreadableImage, match=r"2\.png"):  # also of an array that exists
        decode_images(folder, names, cache=cache)


def test_images_of_which_none_can_be_decoded_are_refused(tmp_path):
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(UnreadableImage, match="none can be decoded"):
        decode_images(tmp_path, ["a.jpg"], on_unreadable="skip", cache=tmp_path / "cache")


def test_pixels_of_16_bits_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UnreadableImage, match="convert them to 8 bits"):
        decode_images(tmp_path, ["deep.png"], cache=tmp_path / "cache")


def test_images_of_different_sizes_are_refused_with_the_way_out(faces):
    folder, names, cache = faces
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "4.png")
    with pytest.raises(ValueError, match=r"0\.png has 6 x 8 pixels, 4\.png 4 x 4; give the size .*size=\(6, 8\)"):
        decode_images(folder, names, cache=cache)
    assert decode_images(folder, names, size=5, cache=cache).pixels.shape == (5, 5, 5, 3)


def test_an_interrupted_conversion_goes_on_where_it_stopped(faces, monkeypatch):
    folder, names, cache = faces
    expected = np.asarray(decode_images(folder, names, cache=faces[2].with_name("other")).pixels)
    monkeypatch.setattr(images, "_CHUNK", 2)
    decode, calls = images._Job._decoded, []

    def killed(job, number):
        calls.append(number)
        if number == 4:
            raise KeyboardInterrupt
        return decode(job, number)

    monkeypatch.setattr(images._Job, "_decoded", killed)
    with pytest.raises(KeyboardInterrupt):
        decode_images(folder, names, cache=cache)
    assert not [path for path in cache.iterdir() if path.suffix == ".npy" and "unfinished" not in path.name]
    calls.clear()
    monkeypatch.setattr(images._Job, "_decoded", lambda job, number: calls.append(number) or decode(job, number))
    np.testing.assert_array_equal(decode_images(folder, names, cache=cache).pixels, expected)
    assert calls == [4]


def test_damaged_notes_of_the_progress_begin_again(faces, monkeypatch):
    folder, names, cache = faces
    expected = np.asarray(decode_images(folder, names, cache=cache).pixels)
    for path in cache.glob("*.json"):
        path.write_text("{")
    np.testing.assert_array_equal(decode_images(folder, names, cache=cache).pixels, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be a height and a width"),
        ({"size": (4, 0)}, "size must be a height and a width"),
        ({"files": []}, "there are no image files"),
        ({"files": ["absent.png"]}, "there is no file .*absent.png"),
    ],
)
def test_arguments_are_checked_before_anything_is_decoded(faces, options, message):
    folder, names, cache = faces
    options = {"files": names, **options}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        decode_images(folder, **options, cache=cache)
