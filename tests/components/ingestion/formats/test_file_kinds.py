import gzip
import io
import struct
import zipfile
from collections.abc import Mapping

import numpy as np
import pytest
from PIL import TiffImagePlugin

from components.ingestion.formats import file_kinds
from tests.components.conftest import encoded, picture
from tests.trainer.images import bad_images

PHOTO = picture(1, 40, 30)


def archive(*names: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as written:
        for name in names:
            written.writestr(name, "x")
    return target.getvalue()


def array() -> bytes:
    target = io.BytesIO()
    np.save(target, np.zeros(4))
    return target.getvalue()


def thumbnail_of_a_raw_photo(tags: Mapping[int, int]) -> bytes:
    """A TIFF whose first directory has what cameras write."""
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        directory.tagtype[tag] = 4
        directory[tag] = value
    return encoded(PHOTO, "TIFF", tiffinfo=directory)


def jpeg_with_frame(marker: int, bits: int) -> bytes:
    jpeg = encoded(PHOTO, "JPEG")
    frame = jpeg.index(b"\xff\xc0")
    return jpeg[: frame + 1] + bytes([marker, *jpeg[frame + 2 : frame + 4], bits]) + jpeg[frame + 5 :]


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(100), "a raw photo (Canon CR2)"),
        (box(b"ftyp", b"crx \0\0\0\1crx isom") + bytes(100), "a raw photo (Canon CR3)"),
        (thumbnail_of_a_raw_photo({254: 1, 330: 1000}), "a raw photo (NEF, ARW or the like)"),
        (thumbnail_of_a_raw_photo({254: 0, 50706: 0x01040000}), "a raw photo (DNG)"),
        (bad_images.tiff(4, 4, bytes(16), {262: 32803}), "a raw photo (NEF, ARW or the like)"),
        (thumbnail_of_a_raw_photo({254: 1}), "a TIFF that begins with a small copy of its image"),
        (b"FUJIFILMCCD-RAW 0201", "a raw photo (Fujifilm RAF)"),
        (b"IIRO\x08\0\0\0", "a raw photo (Olympus ORF)"),
        (b"IIU\0\x18\0\0\0", "a raw photo (Panasonic RW2)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "a Git LFS pointer"),
        (b"/annex/objects/SHA256E-s1--4d7a.jpg\n", "a git-annex pointer"),
        (b"../../.git/annex/objects/f8/SHA256E-s1--4d7a.jpg", "a git-annex pointer"),
        (b"outs:\n- md5: 4d7a\n  size: 1\n  path: a.jpg\n", "a DVC pointer"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><title>Not found</title>", "a web page (HTML)"),
        (b"<?xml version='1.0'?><!-- made -->\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"<annotation><filename>a.jpg</filename></annotation>", "an XML file"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF"),
        (box(b"ftyp", b"isom\0\0\2\0isomiso2mp41"), "a video (MP4)"),
        (box(b"ftyp", b"qt  \0\0\2\0qt  "), "a video (QuickTime)"),
        (box(b"wide", b"") + box(b"mdat", b"x"), "a video (QuickTime)"),
        (b"RIFF\0\0\0\0AVI LIST", "a video (AVI)"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81", "a video (Matroska, WebM)"),
        (b"8BPS\0\1" + bytes(20), "a Photoshop file (PSD)"),
        (encoded(PHOTO, "EPS"), "a PostScript file (EPS, AI)"),
        (encoded(PHOTO, "ICO"), "an icon (ICO)"),
        (encoded(PHOTO, "ICNS"), "an icon (ICNS)"),
        (encoded(PHOTO, "JPEG2000"), "a JPEG 2000"),
        (encoded(PHOTO, "TGA"), "a Targa (TGA)"),
        (encoded(PHOTO, "TGA", compression="tga_rle"), "a Targa (TGA)"),
        (encoded(PHOTO.convert("L"), "TGA"), "a Targa (TGA)"),
        (encoded(PHOTO.convert("P"), "TGA"), "a Targa (TGA)"),
        (b"\0\0\2\0\1\0\x20\x20\0\0\7\0\7\0" + bytes(99), "a cursor (CUR)"),
        (encoded(PHOTO, "SGI"), "an SGI image"),
        (encoded(PHOTO, "PCX"), "a PCX"),
        (jpeg_with_frame(0xC1, 12), "a JPEG of 12 bits"),
        (jpeg_with_frame(0xC3, 16), "a JPEG of 16 bits"),
        (jpeg_with_frame(0xF7, 8), "a JPEG-LS"),
        (b"\xff\x0a\x10\x20", "a JPEG XL"),
        (b"v/1\x01\2\0\0\0", "an OpenEXR"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "a Radiance HDR"),
        (bytes(128) + b"DICM", "a DICOM"),
        (b"\x5c\1" + bytes(342) + b"n+1\0", "a NIfTI"),
        (b"SIMPLE  =                    T", "a FITS"),
        (array(), "a NumPy array (npy)"),
        (archive("a.npy"), "NumPy arrays (npz)"),
        (archive("owl.jpg"), "a ZIP archive"),
        (archive("[Content_Types].xml", "word/document.xml"), "a Word document"),
        (gzip.compress(b"x", mtime=0), "a gzip archive"),
        (b"Rar!\x1a\x07\1\0", "a RAR archive"),
        (b"gimp xcf v011\0", "a GIMP file (XCF)"),
        (b"\0\5\x16\7\0\2\0\0", "what macOS notes of another file (AppleDouble)"),
        (b'{"boxes": []}', "a JSON file"),
        ("file;class\nÄ.png;Eule\n".encode(), "a text"),
        ("file;class".encode("utf-16"), "a text (UTF-16)"),
        ("Käfer;grün\n".encode("latin-1"), "a text"),
        (b"BMW and others", "a text"),
        (b"P5: see below", "a text"),
        (bytes(5000), "nothing but zeros"),
        (b"iVBORw0KGgoAAAANSUhEUgAA", "a PNG written as text (Base64)"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, kind: str) -> None:
    assert file_kinds.kind_of(data) == kind


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "PPM", "MPO"])
def test_readable_images_have_no_kind(kind: str) -> None:
    assert file_kinds.kind_of(encoded(PHOTO, kind)) == ""


def test_unknown_content_has_no_kind() -> None:
    for data in (b"", b"\x80\x02\x03", bytes([200, 3, 250]) * 99, box(b"ftyp", b"heic\0\0\0\0mif1heic")):
        assert file_kinds.kind_of(data) == ""


def test_a_long_text_may_be_cut_within_a_character() -> None:
    assert file_kinds.kind_of("ä".encode() * 5000 + b"\0") == "a text"
    assert file_kinds.kind_of(b"x" + "€".encode() * 5000) == "a text"
