"""What a person sees of a run: numbers in files, a progress bar, pictures, a closing report."""
