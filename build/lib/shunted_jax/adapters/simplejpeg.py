"""simplejpeg: the words by which libjpeg tells stray bytes from missing pixels."""


def all_pixels_are_there(error: ValueError) -> bool:
    """Returns whether a strict decoder complains of bytes between the pixels and the file's end.

    Whatever else libjpeg warns of leaves part of the image grey.
    """
    return "extraneous bytes" in str(error)
