"""What the device does to a batch before the network sees it: normalise, erase, mix."""
