"""What a file is if it is not a readable image: recognized by its content, with advice on what to do about it."""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

from components.ingestion.formats import tiff_directory

_HEAD = 4096  # bytes of text that are examined
_RAW = "export it as JPEG or TIFF with the camera's software or a raw converter"
_EXPORT = "save it as PNG or JPEG"
_UNPACK = "unpack it"
_MEDICAL = "convert it to PNG, with the window that shows what matters"
_FRAMES = "extract its frames as JPEG or PNG"

_IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")
_JPEG = _IMAGES[0]
_JPEG_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_JPEG_LS_FRAME = 0xF7
_MOST_SEGMENTS = 100  # that are looked at
_TARGA = re.compile(
    rb".(\0[\x02\x03\x0a\x0b]\0{5}|\x01[\x01\x09]...[\0\x01][\x0f\x10\x18\x20]).{8}[\x08\x10\x18\x20]", re.DOTALL
)
_NETPBM = re.compile(rb"P[1-7][\s#]")
_HEIF = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"mif2", b"msf1", b"avif", b"avis", b"miaf")

_NEW_SUBFILE_TYPE, _COMPRESSION, _PHOTOMETRIC, _SUB_DIRECTORIES, _DNG_VERSION = 254, 259, 262, 330, 50706
_RAW_COMPRESSIONS = (32767, 32769, 32770, 34713, 65000, 65535)  # of Sony, Samsung, Nikon, Kodak and Pentax
_COLOR_FILTER_ARRAY, _LINEAR_RAW = 32803, 34892


class Kind(NamedTuple):
    """What a file is, with its article, and how to get an image out of it, if that is possible."""

    name: str
    way_on: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.way_on}" if self.way_on else f"not an image but {self.name}"


_MAGIC: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"FUJIFILMCCD-RAW", Kind("a raw photo (Fujifilm RAF)", _RAW)),
    (0, b"IIRO", Kind("a raw photo (Olympus ORF)", _RAW)),
    (0, b"IIRS", Kind("a raw photo (Olympus ORF)", _RAW)),
    (0, b"MMOR", Kind("a raw photo (Olympus ORF)", _RAW)),
    (0, b"IIU\0", Kind("a raw photo (Panasonic RW2)", _RAW)),
    (0, b"FOVb", Kind("a raw photo (Sigma X3F)", _RAW)),
    (0, b"\0MRM", Kind("a raw photo (Minolta MRW)", _RAW)),
    (6, b"HEAPCCDR", Kind("a raw photo (Canon CRW)", _RAW)),
    (4, b"ftypcrx ", Kind("a raw photo (Canon CR3)", _RAW)),
    (0, b"%PDF-", Kind("a PDF", "export its pages or images as PNG or JPEG")),
    (0, b"%!PS", Kind("a PostScript file (EPS, AI)", _EXPORT)),
    (0, b"\xc5\xd0\xd3\xc6", Kind("a PostScript file (EPS)", _EXPORT)),
    (0, b"8BPS", Kind("a Photoshop file (PSD)", _EXPORT)),
    (0, b"gimp xcf", Kind("a GIMP file (XCF)", _EXPORT)),
    (0, b"\0\0\1\0", Kind("an icon (ICO)", _EXPORT)),
    (0, b"\0\0\2\0", Kind("a cursor (CUR)", _EXPORT)),
    (0, b"icns", Kind("an icon (ICNS)", _EXPORT)),
    (0, b"\0\0\0\x0cjP  ", Kind("a JPEG 2000", _EXPORT)),
    (0, b"\xff\x4f\xff\x51", Kind("a JPEG 2000", _EXPORT)),
    (0, b"\0\0\0\x0cJXL ", Kind("a JPEG XL", _EXPORT)),
    (0, b"\xff\x0a", Kind("a JPEG XL", _EXPORT)),
    (0, b"II\xbc\1", Kind("a JPEG XR", _EXPORT)),
    (0, b"v/1\x01", Kind("an OpenEXR", "map its tones to 8 bits and save it as PNG")),
    (0, b"#?RADIANCE", Kind("a Radiance HDR", "map its tones to 8 bits and save it as PNG")),
    (0, b"#?RGBE", Kind("a Radiance HDR", "map its tones to 8 bits and save it as PNG")),
    (0, b"Pf\n", Kind("a float map (PFM)", "map its tones to 8 bits and save it as PNG")),
    (0, b"PF\n", Kind("a float map (PFM)", "map its tones to 8 bits and save it as PNG")),
    (0, b"DDS ", Kind("a DirectDraw texture (DDS)", _EXPORT)),
    (0, b"\1\xda\0\1", Kind("an SGI image", _EXPORT)),
    (0, b"\1\xda\1\1", Kind("an SGI image", _EXPORT)),
    (0, b"\n\5\1\1", Kind("a PCX", _EXPORT)),
    (0, b"\n\5\1\10", Kind("a PCX", _EXPORT)),
    (40, b" EMF", Kind("a drawing (EMF)", _EXPORT)),
    (0, b"\xd7\xcd\xc6\x9a", Kind("a drawing (WMF)", _EXPORT)),
    (0, b"ZISRAWFILE", Kind("a microscope's file (CZI)", "export its images as PNG or TIFF")),
    (0, b"\xda\xce\xbe\n", Kind("a microscope's file (ND2)", "export its images as PNG or TIFF")),
    (0, b"NRRD000", Kind("an NRRD", _MEDICAL)),
    (0, b"qoif", Kind("a QOI", _EXPORT)),
    (0, b"BPG\xfb", Kind("a BPG", _EXPORT)),
    (0, b"FLIF", Kind("a FLIF", _EXPORT)),
    (0, b"AT&TFORM", Kind("a DjVu document", _EXPORT)),
    (128, b"DICM", Kind("a DICOM", _MEDICAL)),
    (344, b"n+1\0", Kind("a NIfTI", _MEDICAL)),
    (344, b"ni1\0", Kind("a NIfTI", _MEDICAL)),
    (4, b"n+2\0\r\n\x1a\n", Kind("a NIfTI", _MEDICAL)),
    (0, b"SIMPLE  =", Kind("a FITS", "scale it to 8 or 16 bits and save it as PNG")),
    (0, b"\x93NUMPY", Kind("a NumPy array (npy)", "save it as PNG")),
    (0, b"\x89HDF\r\n\x1a\n", Kind("an HDF5 file", "save its images as PNG")),
    (0, b"MATLAB 5.0", Kind("a MATLAB file", "save its images as PNG")),
    (0, b"PAR1", Kind("a Parquet file", "save its images as files")),
    (0, b"SQLite format 3\0", Kind("an SQLite database")),
    (0, b"\x1f\x8b", Kind("a gzip archive", _UNPACK)),
    (4, b"1AY&SY", Kind("a bzip2 archive", _UNPACK)),
    (0, b"\xfd7zXZ\0", Kind("an xz archive", _UNPACK)),
    (0, b"7z\xbc\xaf'\x1c", Kind("a 7z archive", _UNPACK)),
    (0, b"Rar!\x1a\x07", Kind("a RAR archive", _UNPACK)),
    (0, b"(\xb5/\xfd", Kind("a Zstandard archive", _UNPACK)),
    (257, b"ustar", Kind("a tar archive", _UNPACK)),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind("an Office document or a thumbnail cache (OLE)")),
    (0, b"\x1aE\xdf\xa3", Kind("a video (Matroska, WebM)", _FRAMES)),
    (0, b"\0\0\1\xba", Kind("a video (MPEG)", _FRAMES)),
    (0, b"\0\0\1\xb3", Kind("a video (MPEG)", _FRAMES)),
    (0, b"FLV\1", Kind("a video (FLV)", _FRAMES)),
    (0, b"0&\xb2u\x8ef\xcf\x11", Kind("a video (WMV)", _FRAMES)),
    (8, b"AVI LIST", Kind("a video (AVI)", _FRAMES)),
    (8, b"WAVE", Kind("a sound (WAV)")),
    (0, b"ID3", Kind("a sound (MP3)")),
    (0, b"OggS", Kind("a sound or video (Ogg)")),
    (0, b"fLaC", Kind("a sound (FLAC)")),
    (0, b"\0\5\x16\7", Kind("what macOS notes of another file (AppleDouble)")),
    (0, b"bplist00", Kind("a property list")),
    (0, b"L\0\0\0\1\x14\2\0", Kind("a Windows shortcut", "copy the file that it leads to")),
    (0, b"book\0\0\0\0mark", Kind("a macOS alias", "copy the file that it leads to")),
    (0, b"\x7fELF", Kind("a program")),
    (0, b"MZ\x90\0", Kind("a program")),
)
"""Where in a file which bytes are."""

_ZIPS = (
    (b"word/", Kind("a Word document", "save its images as files")),
    (b"xl/", Kind("an Excel workbook")),
    (b"ppt/", Kind("a PowerPoint presentation", "save its images as files")),
    (b"mimetypeapplication/vnd.oasis", Kind("an OpenDocument file", "save its images as files")),
    (b".npy", Kind("NumPy arrays (npz)", "save them as PNG")),
)

_TEXTS: tuple[tuple[bytes, Kind], ...] = (
    (b"version https://git-lfs.github.com/spec/", Kind("a Git LFS pointer", "run git lfs pull")),
    (b"version https://hawser.github.com/spec/", Kind("a Git LFS pointer", "run git lfs pull")),
    (b"/annex/objects/", Kind("a git-annex pointer", "run git annex get")),
    (b"outs:\n- md5:", Kind("a DVC pointer", "run dvc pull")),
    (b"outs:\n- etag:", Kind("a DVC pointer", "run dvc pull")),
    (b"ivborw0kggo", Kind("a PNG written as text (Base64)", "decode it")),
    (b"/9j/", Kind("a JPEG written as text (Base64)", "decode it")),
    (b"data:image/", Kind("an image written as text (Base64)", "decode it")),
    (b"{\\rtf", Kind("a rich text document")),
    (b"[internetshortcut]", Kind("a link to a web page", "download what it leads to")),
)
"""How texts begin, in lower case."""

_WEB_PAGE = Kind("a web page (HTML)", "it was saved in place of the image: download that again")
_SVG = Kind("an SVG drawing", "render it as PNG")


def kind_of(data: bytes) -> str:
    """What a file is, such as "a Git LFS pointer", by its first kilobytes, which suffice except for some raw photos.

    Empty if it begins like a readable image, or like nothing known here.
    """
    kind = recognize(data)
    return kind.name if kind else ""


def recognize(data: bytes) -> Kind | None:
    """Like `kind_of`, with advice on what to do about it."""
    if _TARGA.match(data):  # some begin like a cursor
        return Kind("a Targa (TGA)", _EXPORT)
    for place, magic, kind in _MAGIC:
        if data.startswith(magic, place):
            return kind
    if data[:4] in tiff_directory.MAGIC:
        return _raw_photo(data)
    if data.startswith(_JPEG):
        return _unread_jpeg(data)
    bitmap = data[:2] == b"BM" and data[6:10] == b"\0\0\0\0"
    if bitmap or data.startswith(_IMAGES) or _NETPBM.match(data) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        return None
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return _of_boxes(data)
    if data.startswith((b"PK\3\4", b"PK\5\6")):
        return next((kind for part, kind in _ZIPS if part in data[:_HEAD]), Kind("a ZIP archive", _UNPACK))
    if data and not data.strip(b"\0"):
        return Kind("nothing but zeros", "its copy or download failed: get it again")
    return _text(data[:_HEAD])


def _raw_photo(data: bytes) -> Kind | None:
    """Of a TIFF, whose first page is then a thumbnail or what no one but a raw converter can show."""
    if data.startswith(b"CR", 8):
        return Kind("a raw photo (Canon CR2)", _RAW)
    try:
        tags = tiff_directory.read(data)
    except ValueError:
        return None
    if _DNG_VERSION in tags:
        return Kind("a raw photo (DNG)", _RAW)
    sensor = tags.get(_PHOTOMETRIC) in (_COLOR_FILTER_ARRAY, _LINEAR_RAW) or tags.get(_COMPRESSION) in _RAW_COMPRESSIONS
    reduced = (tags.get(_NEW_SUBFILE_TYPE) or 0) & 1
    if sensor or (reduced and _SUB_DIRECTORIES in tags):
        return Kind("a raw photo (NEF, ARW or the like)", _RAW)
    if reduced:
        return Kind("a TIFF that begins with a small copy of its image", "save that image as a TIFF of its own")
    return None


def _unread_jpeg(data: bytes) -> Kind | None:
    """Of a JPEG that is none of 8 bits, as medical ones are (ITU-T T.81, B.2.2; T.87)."""
    place = 2
    for _ in range(_MOST_SEGMENTS):
        if place + 5 > len(data) or data[place] != 0xFF:
            break
        marker = data[place + 1]
        if marker == _JPEG_LS_FRAME:
            return Kind("a JPEG-LS", _EXPORT)
        if marker in _JPEG_FRAMES:
            bits = data[place + 4]
            return None if bits == 8 else Kind(f"a JPEG of {bits} bits", "save it as PNG, or as a JPEG of 8 bits")
        place += 1 if marker == 0xFF else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


def _of_boxes(data: bytes) -> Kind | None:
    """Of ISO's base media format: HEIF and AVIF are images, all else is video."""
    size = int.from_bytes(data[:4], "big")
    if data[4:8] == b"ftyp" and any(data[i : i + 4] in _HEIF for i in range(8, min(size, _HEAD), 4)):
        return None
    quicktime = data[4:8] != b"ftyp" or data[8:12] == b"qt  "
    return Kind("a video (QuickTime)" if quicktime else "a video (MP4)", _FRAMES)


def _text(head: bytes) -> Kind | None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) and b"\0" in head:
        return Kind("a text (UTF-16)")
    if not head or any(octet < 32 and octet not in b"\t\n\f\r\x1b" for octet in head):
        return None
    words = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for begin, kind in _TEXTS:
        if words.startswith(begin):
            return kind
    if b"/annex/objects/" in words[:300] and b"\n" not in words.strip():
        return Kind("a git-annex pointer", "run git annex get")
    if words.startswith(b"<"):
        if b"<svg" in words:
            return _SVG
        if b"<html" in words or words.startswith((b"<!doctype html", b"<head", b"<body")):
            return _WEB_PAGE
        return Kind("an XML file")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # which waits for the rest of a last character
    except UnicodeDecodeError:
        if sum(octet > 127 for octet in head) > len(head) / 4:  # Latin-1 has fewer
            return None
    return Kind("a JSON file") if words.startswith((b"{", b"[")) else Kind("a text")
