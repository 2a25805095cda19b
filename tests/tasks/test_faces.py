"""Every face under its age, however it is packed, or one sentence says what is wrong with which."""

import io
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
import tarfile
import zlib
from collections import Counter

import numpy as np
import pytest
import torch
from disks import files_of_at_most, small_disk
from PIL import Image

from deimos.tasks import faces

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


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((width, height), 40).convert("RGB").save(file, "PNG")
    return file.getvalue()


def bomb(width: int, height: int, text: int = 0) -> bytes:
    """A PNG of a few kilobytes that is white and as large as it says, or has as long a text."""

    def chunk(name: bytes, content: bytes) -> bytes:
        whole = name + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    described = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(text), 9)) if text else b""
    pixels = zlib.compress(bytes(min(2**20, height * (1 + 3 * width))), 9)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), described, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    )


def memory_of_at_most(extra: int, call):
    """Call with so many bytes more of address space than are in use; MemoryError beyond."""
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + extra, limits[1]))
    try:
        return call()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


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
    task = faces.load_face_age("paper")
    assert task.y.tolist() == [faces.age(name) for name in sorted(NAMES)]
    assert sorted(task.y.tolist())[-4:] == [24, 39, 55, 100]
    assert task.source == "UTKFace" and not task.stand_in


def test_pixels_are_those_of_the_image_channels_first_red_first(data, images):
    pack(data / "utkface" / "UTKFace-aa.tar", images)
    task = faces.load_face_age("paper")
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
    parts = faces.load_face_age("paper")
    for part in folder.glob("*.tar"):
        part.unlink()
    for name, content in images.items():
        (folder / name).write_bytes(content)
    loose = faces.load_face_age("paper")
    packed = folder / "UTKFace.tar.gz"
    pack(packed, images, mode="w:gz")
    with pytest.raises(ValueError, match="UTKFace.tar.gz is damaged"):
        faces.load_face_age("paper")
    monkeypatch.setattr(
        faces, "UTKFACE_SHA256", faces.hashlib.sha256(packed.read_bytes()).hexdigest()
    )
    whole = faces.load_face_age("paper")
    assert parts.checksum == loose.checksum == whole.checksum
    assert torch.equal(parts.x, whole.x) and torch.equal(parts.train_ids, loose.train_ids)


def test_the_test_set_is_a_tenth_rounded_up_and_always_the_same(data, images):
    folder = data / "mine"
    folder.mkdir()
    for name, content in list(images.items())[:11]:
        (folder / name).write_bytes(content)
    task, again = (faces.load_face_age("paper", folder=folder) for _ in range(2))
    assert len(task.test_x) == 2 and len(task.train_ids) == 9
    assert torch.equal(task.train_ids, again.train_ids)
    left = sorted(task.y[task.train_ids].tolist() + task.test_y.tolist())
    assert left == sorted(task.y.tolist())
    assert task.source == "own folder mine" and task.stand_in


def test_duplicates_are_kept_unless_told_otherwise(data, images):
    folder = data / "mine"
    folder.mkdir()
    for name, content in images.items():
        (folder / name).write_bytes(content)
    (folder / "77_twin.jpg").write_bytes(images[NAMES[0]])  # of another age, as in UTKFace
    everything = faces.load_face_age("paper", folder=folder)
    without = faces.load_face_age("paper", folder=folder, drop_duplicates=True)
    assert len(everything.train_ids) + len(everything.test_x) == 21
    assert len(without.train_ids) + len(without.test_x) == 20
    ages = without.y[without.train_ids].tolist() + without.test_y.tolist()
    assert 100 in ages and 77 not in ages  # the first of the two in the order of names


def test_images_are_decoded_once(data, images, monkeypatch):
    pack(data / "utkface" / "UTKFace-aa.tar", images)
    first = faces.load_face_age("paper")
    monkeypatch.setattr(faces, "decode_portrait", None)
    second = faces.load_face_age("paper")
    assert torch.equal(first.x, second.x)
    assert [file.name for file in data.glob("faces-*")] == [f"faces-{first.checksum}.npy"]
    second.x[0] = 0  # a task's tensors are its own: the file keeps what was decoded
    assert torch.equal(first.x, faces.load_face_age("paper").x)


def own(data, images) -> object:
    """A folder of one's own with the first images."""
    folder = data / "mine"
    folder.mkdir()
    for name, content in list(images.items())[:4]:
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda whole: b"", "is damaged"),
        (lambda whole: whole[:100], "is damaged"),
        (lambda whole: whole[:-1], "is damaged"),
        (lambda whole: b"<!DOCTYPE html>", "is damaged"),
        (lambda whole: pickle.dumps(["anything"]), "is damaged"),
        (lambda whole: whole.replace(b"(4,", b"(3,"), "holds uint8 .3, 3, 200, 200."),
    ],
    ids=["empty", "no header", "cut", "web page", "pickle", "too few"],
)
def test_a_damaged_cache_of_decoded_faces_is_named(data, images, damage, complaint):
    folder = own(data, images)
    faces.load_face_age("quick", folder=folder)
    (cache,) = data.glob("faces-*")
    cache.write_bytes(damage(cache.read_bytes()))
    with pytest.raises(ValueError, match=f"{cache.name} {complaint}: delete it and run again"):
        faces.load_face_age("quick", folder=folder)
    cache.unlink()
    assert len(faces.load_face_age("quick", folder=folder).x) == 4


def test_a_disk_that_fills_up_while_faces_are_decoded_is_an_error_and_leaves_no_cache(
    data, images, monkeypatch
):
    folder = own(data, images)  # decoded, 480 kB
    told = "faces-.*npy cannot be written .*: make room .*or set DEIMOS_DATA"
    with files_of_at_most(300_000), pytest.raises(OSError, match=told):
        faces.load_face_age("quick", folder=folder)
    assert not list(data.glob("faces-*"))
    with small_disk(data / "disk", 300) as disk, pytest.raises(OSError, match=told):
        monkeypatch.setenv("DEIMOS_DATA", str(disk))
        faces.load_face_age("quick", folder=folder)


def test_where_the_data_folder_may_only_be_read_faces_are_decoded_into_the_repositorys(
    data, images, monkeypatch, tmp_path
):
    monkeypatch.setattr(faces, "ROOT", tmp_path / "here")
    with small_disk(data / "disk", 64, ",ro") as disk:
        monkeypatch.setenv("DEIMOS_DATA", str(disk))
        assert len(faces.load_face_age("quick", folder=own(data, images)).x) == 4
    assert len(list((tmp_path / "here" / "data").glob("faces-*.npy"))) == 1


KILLED = """
import os, signal, sys
import numpy as np
from deimos.tasks import faces
def decode(name, content):
    if name.startswith("39"):
        os.kill(os.getpid(), signal.SIGKILL)
    return np.zeros((3, 200, 200), np.uint8)
faces.decode_portrait = decode
faces.load_face_age("quick", folder=sys.argv[1])
"""


@pytest.mark.soak
def test_decoding_that_is_killed_half_way_never_looks_complete(data, images):
    folder = own(data, images)
    ours = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder)], env=ours, stderr=-3)
    assert killed.returncode == -signal.SIGKILL
    (part,) = data.glob("faces-*")
    assert part.suffix == ".part"
    assert faces.load_face_age("quick", folder=folder).x.max() == 255
    assert [file.suffix for file in data.glob("faces-*")] == [".npy"]


def test_decoding_that_fails_leaves_no_cache(data, images):
    folder = data / "mine"
    folder.mkdir()
    (folder / NAMES[0]).write_bytes(images[NAMES[0]])
    (folder / NAMES[4]).write_bytes(images[NAMES[4]][:-300])
    with pytest.raises(ValueError, match=f"{NAMES[4]} is damaged or no image"):
        faces.load_face_age("quick", folder=folder)
    assert not list(data.glob("faces-*"))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("31_0_0.jpg", jpeg(9, size=(200, 180)), "200 × 180 in mode RGB, not 200 × 200"),
        ("31_0_0.jpg", jpeg(9, mode="L"), "in mode L"),
        ("31_0_0.jpg", b"<html>", "31_0_0.jpg is damaged or no image: wanted a JPEG or a PNG"),
        ("31_0_0.jpg", b"", "31_0_0.jpg is damaged or no image: wanted a JPEG or a PNG"),
        ("31_0_0.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 200 200\n", "no image"),
        ("31_0_0.jpg", jpeg(9)[:-300], "31_0_0.jpg is damaged or no image"),
        ("31_0_0.png", png(200, 200)[:-30], "31_0_0.png is damaged or no image"),
        ("31_0_0.png", bomb(12_000, 12_000), "12000 × 12000 in mode RGB, not 200 × 200"),
        ("31_0_0.png", bomb(60_000, 60_000), "31_0_0.png is damaged or no image: .*bomb"),
        (
            "31_0_0.png",
            bomb(200, 200, text=2**27),
            "31_0_0.png is damaged or no image: .*too large",
        ),
        ("portrait.jpg", jpeg(9), "'portrait.jpg' does not begin with an age"),
    ],
)
@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
def test_a_bad_image_is_named_before_it_is_unpacked(data, name, content, complaint):
    folder = data / "mine"
    folder.mkdir()
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        memory_of_at_most(2**26, lambda: faces.load_face_age("quick", folder=folder))


def test_what_systems_leave_beside_portraits_is_none_of_them(data, images):
    folder = own(data, images)
    (folder / "._31_0.jpg").write_bytes(b"Mac OS X")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX/32_0.jpg").write_bytes(b"Mac OS X")
    pack(data / "utkface" / "UTKFace-aa.tar", {**images, "._31_0.jpg": b"Mac OS X"})
    assert len(faces.load_face_age("quick", folder=folder).x) == 4
    assert len(faces.load_face_age("paper").x) == 20


def test_a_portrait_that_was_taken_on_its_side_stands_upright(data):
    pixels = np.zeros((200, 200, 3), np.uint8)
    pixels[:100] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    file = io.BytesIO()
    Image.fromarray(pixels).rotate(90).save(file, "JPEG", exif=exif.tobytes(), quality=95)
    shown = faces.decode_portrait("31_.jpg", file.getvalue()).astype(int)
    assert abs(shown - pixels.transpose(2, 0, 1)).mean() < 5


def test_damaged_bytes_are_an_image_or_are_named_and_nothing_else(rng):
    """Three thousand images with bytes changed and ends cut off."""
    seen = Counter()
    for content in (jpeg(70), png(200, 200)):
        for _ in range(1500):
            damaged = np.frombuffer(content, np.uint8).copy()
            where = rng.integers(0, rng.choice([64, 1000, len(damaged)]), rng.choice([1, 3, 20]))
            damaged[where % len(damaged)] = rng.integers(0, 256, len(where))
            end = rng.integers(1, len(damaged)) if rng.random() < 0.3 else len(damaged)
            try:
                seen[faces.decode_portrait("1_.jpg", damaged[:end].tobytes()).shape] += 1
            except ValueError as error:
                assert str(error).startswith("1_.jpg is ")
                seen["named"] += 1
    assert set(seen) == {(3, 200, 200), "named"} and min(seen.values()) > 200


@pytest.mark.parametrize("obstacle", ["folder", "broken link"])
def test_an_image_that_cannot_be_read_is_named(data, images, obstacle):
    folder = own(data, images)
    if obstacle == "folder":
        (folder / "31_x.jpg").mkdir()
    else:
        (folder / "31_x.jpg").symlink_to(folder / "gone.jpg")
    with pytest.raises(OSError, match="31_x.jpg cannot be read .*: see that it is a file"):
        faces.load_face_age("quick", folder=folder)


def test_one_image_alone_cannot_be_split(data, images):
    folder = data / "mine"
    folder.mkdir()
    (folder / NAMES[0]).write_bytes(images[NAMES[0]])
    with pytest.raises(ValueError, match="mine has one image, wanted 2 or more"):
        faces.load_face_age("quick", folder=folder)


def test_an_empty_folder_is_refused(data):
    (data / "mine").mkdir()
    with pytest.raises(ValueError, match="mine: no images there"):
        faces.load_face_age("quick", folder=data / "mine")
    with pytest.raises(ValueError, match="elsewhere is not a folder of images"):
        faces.load_face_age("quick", folder=data / "elsewhere")


def test_other_images_in_the_place_of_utkface_are_refused(data, images):
    pack(data / "utkface" / "UTKFace-aa.tar", dict(list(images.items())[1:]))
    with pytest.raises(ValueError, match="has 19 images, which are not the 23,708 of UTKFace"):
        faces.load_face_age("quick")


def test_an_archive_is_read_without_following_or_writing_anything(data, images):
    archive = data / "utkface" / "UTKFace-aa.tar"
    pack(archive, images, prefix="../../")
    assert len(faces.load_face_age("paper").x) == 20
    assert sorted(file.name for file in data.iterdir())[1:] == ["utkface"]
    with tarfile.open(archive, "a") as tar:
        link = tarfile.TarInfo("1_0_0.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(ValueError, match="holds a link or a device, 1_0_0.jpg"):
        faces.load_face_age("paper")


@pytest.mark.parametrize(
    "kind", ["SYMTYPE", "LNKTYPE", "CHRTYPE", "BLKTYPE", "FIFOTYPE"], ids=str.lower
)
def test_an_archive_with_anything_but_files_and_folders_is_refused(data, images, kind):
    archive = data / "utkface" / "UTKFace-aa.tar"
    pack(archive, images)
    with tarfile.open(archive, "a") as tar:
        member = tarfile.TarInfo("../1_0_0.jpg")
        member.type, member.linkname = getattr(tarfile, kind), "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(ValueError, match="aa.tar holds a link or a device, ../1_0_0.jpg: only"):
        faces.load_face_age("quick")


def test_an_archive_that_claims_an_image_of_any_size_is_refused(data, images):
    archive = data / "utkface" / "UTKFace-aa.tar"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("1_0_0.jpg")
        member.size = 2**28
        with open("/dev/zero", "rb") as zeros:
            tar.addfile(member, zeros)  # 256 MiB that take 260 kB
    with pytest.raises(
        ValueError, match="aa.tar holds 1_0_0.jpg of 268,435,456 bytes, which is no"
    ):
        memory_of_at_most(2**26, lambda: faces.load_face_age("quick"))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_damaged_archive_is_named_in_one_line(data, images, mode):
    archive = data / "utkface" / "UTKFace-aa.tar"
    pack(archive, images, mode)
    whole, told = (
        archive.read_bytes(),
        "UTKFace-aa.tar .*: fetch it again$|which are not the 23,708",
    )
    middle = len(whole) // 2
    damaged = [b"", b"<!DOCTYPE html>" * 99, whole[:10], whole[:middle], b"\1" * len(whole)]
    damaged += [whole[:middle] + bytes(64) + whole[middle + 64 :]]
    for content in damaged if mode != "w" else damaged[:-1]:
        archive.write_bytes(content)
        with pytest.raises(ValueError, match=told) as raised:
            faces.load_face_age("quick")
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content", [b"", b"<!DOCTYPE html><title>Log in</title>", b"\x1f\x8b" + 99 * b"\0"]
)
def test_a_web_page_that_was_saved_as_the_archive_is_named(data, content):
    (data / "utkface" / "UTKFace.tar.gz").write_bytes(content)
    for scale in ("paper", "smoke"):
        with pytest.raises(ValueError, match="UTKFace.tar.gz is damaged .sha256.*: delete it and"):
            faces.load_face_age(scale)


def test_an_archive_that_is_cut_short_is_named(data, images):
    archive = data / "utkface" / "UTKFace-aa.tar"
    pack(archive, images)
    whole = archive.read_bytes()
    with tarfile.open(archive) as tar:
        last = tar.getmembers()[-1]
    archive.write_bytes(whole[: last.offset_data + 10])
    with pytest.raises(
        ValueError, match="UTKFace-aa.tar is no archive, or damaged or cut short .unexpected end"
    ):
        faces.load_face_age("paper")
    archive.write_bytes(whole[: last.offset + 10])  # tarfile takes this for the end
    with pytest.raises(ValueError, match=r"has 19 images, which are not the 23,708 of UTKFace"):
        faces.load_face_age("paper")


def test_at_paper_scale_missing_faces_are_an_error_that_says_what_to_put_where(data):
    with pytest.raises(FileNotFoundError, match=r"put UTKFace.tar.gz, .* there, or use SCALE"):
        faces.load_face_age("paper")


def test_the_stand_in_has_an_age_that_can_be_learned_from_the_pixels(data):
    task = faces.load_face_age("quick")
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
