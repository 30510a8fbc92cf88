"""Folders of weights as people share them, on a disk or on Hugging Face's hub.

Such a folder holds safetensors, or PyTorch's files, under PyTorch's names, a `config.json` and a
card. `weight_files.py` reads anybody's; `shared_folder.py` writes and reads those that say of
themselves all that a checkpoint does.
"""
