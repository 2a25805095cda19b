"""Every face under its age, however it is packed, or one sentence says what is wrong with which."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from deimos import faces

NAMES = [
    "100_0_0_20170112213500903.jpg.chip.jpg",
    "24_0_1_20170116220224657 .jpg.chip.jpg",  # a space
    "39_1_20170116174525125.jpg.chip.jpg",  # no race
    "55_0_0_20170116232725357jpg.chip.jpg",  # a dot is missing
    *[f"{age}_1_0_20170109142408075.jpg.chip.jpg" for age in range(1, 17)],
]


def jpeg(value: int, size=(200, 200), mode="RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value, 0, 255)).save(file, "JPEG", quality=95)
    return file.getvalue()


def pack(file, images: dict[str, bytes], mode="w", prefix="UTKFace/"):
    with tarfile.open(file, mode) as archive:
        folder = tarfile.TarInfo(prefix)
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in images.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def images():
    return {name: jpeg(10 * number) for number, name in enumerate(NAMES)}


@pytest.fixture
def data(tmp_path, monkeypatch, images):
    """A data folder where the twenty images above are all of UTKFace, and no network."""
    monkeypatch.setenv("DEIMOS_DATA", str(tmp_path))
    monkeypatch.setattr(faces, "UTKFACE_URL", "http://127.0.0.1:9/")
    listing = faces.listing_digest(dict(sorted(images.items())))
    monkeypatch.setattr(faces, "UTKFACE_LISTING", listing)
    (tmp_path / "utkface").mkdir()
    return tmp_path


def test_irregular_names_have_their_ages(data, images):
    pack(data / "utkface" / "UTKFace-aa.tar", images)
    task = faces.face_age("paper")
    assert task.y.tolist() == [faces.age(name) for name in sorted(NAMES)]
    assert sorted(task.y.tolist())[-4:] == [24, 39, 55, 100]
    assert task.source == "UTKFace" and not task.stand_in


def test_pixels_are_those_of_the_image_channels_first_red_first(data, images):
    pack(data / "utkface" / "UTKFace-aa.tar", images)
    task = faces.face_age("paper")
    assert task.x.shape == (20, 3, 200, 200) and task.x.dtype == torch.uint8
    for row, name in enumerate(sorted(NAMES)):
        red, green, blue = task.x[row, :, 100, 100].tolist()
        assert abs(red - 10 * NAMES.index(name)) <= 3 and green <= 3 and blue >= 252


def test_parts_images_and_archive_are_the_same_faces(data, images, monkeypatch):
    folder = data / "utkface"
    half = dict(list(images.items())[:9]), dict(list(images.items())[9:])
    pack(folder / "UTKFace-aa.tar", half[0], prefix="")
    pack(folder / "UTKFace-ab.tar", half[1], prefix="")
    (folder / "SHA256SUMS").write_text("not an image")
    parts = faces.face_age("paper")
    for part in folder.glob("*.tar"):
        part.unlink()
    for name, content in images.items():
        (folder / name).write_bytes(content)
    loose = faces.face_age("paper")
    packed = folder / "UTKFace.tar.gz"
    pack(packed, images, mode="w:gz")
    with pytest.raises(ValueError, match="UTKFace.tar.gz is damaged"):
        faces.face_age("paper")
    monkeypatch.setattr(
        faces, "UTKFACE_SHA256", faces.hashlib.sha256(packed.read_bytes()).hexdigest()
    )
    whole = faces.face_age("paper")
    assert parts.checksum == loose.checksum == whole.checksum
    assert torch.equal(parts.x, whole.x) and torch.equal(parts.train_ids, loose.train_ids)


def test_the_test_set_is_a_tenth_rounded_up_and_always_the_same(data, images):
    folder = data / "mine"
    folder.mkdir()
    for name, content in list(images.items())[:11]:
        (folder / name).write_bytes(content)
    task, again = (faces.face_age("paper", folder=folder) for _ in range(2))
    assert len(task.test_x) == 2 and len(task.train_ids) == 9
    assert torch.equal(task.train_ids, again.train_ids)
    left = sorted(task.y[task.train_ids].tolist() + task.test_y.tolist())
    assert left == sorted(task.y.tolist()) and task.source == "mine"


def test_duplicates_are_kept_unless_told_otherwise(data, images):
    folder = data / "mine"
    folder.mkdir()
    for name, content in images.items():
        (folder / name).write_bytes(content)
    (folder / "77_twin.jpg").write_bytes(images[NAMES[0]])  # of another age, as in UTKFace
    everything = faces.face_age("paper", folder=folder)
    without = faces.face_age("paper", folder=folder, drop_duplicates=True)
    assert len(everything.train_ids) + len(everything.test_x) == 21
    assert len(without.train_ids) + len(without.test_x) == 20
    ages = without.y[without.train_ids].tolist() + without.test_y.tolist()
    assert 100 in ages and 77 not in ages  # the first of the two in the order of names


def test_images_are_decoded_once(data, images, monkeypatch):
    pack(data / "utkface" / "UTKFace-aa.tar", images)
    first = faces.face_age("paper")
    monkeypatch.setattr(faces, "decode", None)
    second = faces.face_age("paper")
    assert torch.equal(first.x, second.x)
    assert [file.name for file in data.glob("faces-*")] == [f"faces-{first.checksum}.npy"]
    second.x[0] = 0  # a task's tensors are its own: the file keeps what was decoded
    assert torch.equal(first.x, faces.face_age("paper").x)


def test_decoding_that_fails_leaves_no_cache(data, images):
    folder = data / "mine"
    folder.mkdir()
    (folder / NAMES[0]).write_bytes(images[NAMES[0]])
    (folder / NAMES[4]).write_bytes(images[NAMES[4]][:-300])
    with pytest.raises(ValueError, match=f"{NAMES[4]} is damaged or no image"):
        faces.face_age("quick", folder=folder)
    assert not list(data.glob("faces-*"))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("31_0_0.jpg", jpeg(9, size=(200, 180)), "200 × 180 in mode RGB, not 200 × 200"),
        ("31_0_0.jpg", jpeg(9, mode="L"), "in mode L"),
        ("31_0_0.jpg", b"<html>", "31_0_0.jpg is damaged or no image"),
        ("portrait.jpg", jpeg(9), "'portrait.jpg' does not begin with an age"),
    ],
)
def test_a_bad_image_is_named(data, name, content, complaint):
    folder = data / "mine"
    folder.mkdir()
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        faces.face_age("quick", folder=folder)


def test_an_empty_folder_is_refused(data):
    (data / "mine").mkdir()
    with pytest.raises(ValueError, match="mine: no images there"):
        faces.face_age("quick", folder=data / "mine")
    with pytest.raises(ValueError, match="elsewhere is not a folder of images"):
        faces.face_age("quick", folder=data / "elsewhere")


def test_other_images_in_the_place_of_utkface_are_refused(data, images):
    pack(data / "utkface" / "UTKFace-aa.tar", dict(list(images.items())[1:]))
    with pytest.raises(ValueError, match="has 19 images, which are not the 23,708 of UTKFace"):
        faces.face_age("quick")


def test_an_archive_is_read_without_following_or_writing_anything(data, images):
    archive = data / "utkface" / "UTKFace-aa.tar"
    pack(archive, images, prefix="../../")
    assert len(faces.face_age("paper").x) == 20
    assert sorted(file.name for file in data.iterdir())[1:] == ["utkface"]
    with tarfile.open(archive, "a") as tar:
        link = tarfile.TarInfo("1_0_0.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(ValueError, match="holds a link, 1_0_0.jpg"):
        faces.face_age("paper")


def test_an_archive_that_is_cut_short_is_named(data, images):
    archive = data / "utkface" / "UTKFace-aa.tar"
    pack(archive, images)
    whole = archive.read_bytes()
    with tarfile.open(archive) as tar:
        last = tar.getmembers()[-1]
    archive.write_bytes(whole[: last.offset_data + 10])
    with pytest.raises(ValueError, match="UTKFace-aa.tar is damaged or cut short: unexpected end"):
        faces.face_age("paper")
    archive.write_bytes(whole[: last.offset + 10])  # tarfile takes this for the end
    with pytest.raises(ValueError, match=r"has 19 images, which are not the 23,708 of UTKFace"):
        faces.face_age("paper")


def test_at_paper_scale_missing_faces_are_an_error_that_says_what_to_put_where(data):
    with pytest.raises(FileNotFoundError, match=r"put UTKFace.tar.gz, .* there, or use SCALE"):
        faces.face_age("paper")


def test_the_stand_in_has_an_age_that_can_be_learned_from_the_pixels(data):
    task = faces.face_age("quick")
    assert task.stand_in and task.source.startswith("stand-in")
    assert task.x.shape == (600, 3, 200, 200) and len(task.test_x) == 60
    assert 30 < task.y.mean() < 36 and task.y.min() >= 1
    coarse = task.x.float().unfold(2, 20, 20).unfold(3, 20, 20).mean((4, 5)).flatten(1)
    features = np.c_[coarse.numpy(), np.ones(600)]
    known, asked = slice(0, 480), slice(480, 600)
    weights = np.linalg.solve(
        features[known].T @ features[known] + 300 * np.eye(301),
        features[known].T @ task.y[known].numpy(),
    )
    mse = np.mean((features[asked] @ weights - task.y[asked].numpy()) ** 2)
    assert mse < 0.7 * task.y[asked].var()
