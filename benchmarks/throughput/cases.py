"""What is run: a case of one contestant, and the cases by name, most valuable first."""

import dataclasses

OURS = "ours"
TORCH = ("eager", "channels_last", "compile channels_last")
# What more there is to try on a GPU.
TORCH_ON_GPU = (
    "compile channels_last, max-autotune",
    "compile channels_last, CUDA graphs",
    "compile",
)
VARIANTS = ("shunted_t", "shunted_s", "shunted_b")
_GROWTH = {224: (1, 4, 16, 64, 256), 384: (1, 4, 16, 64), 512: (1, 4, 16, 32)}
CASES = {
    "cpu": [
        "shunted_t,training,8,224,float32",
        "shunted_t,training,32,32,float32",
        *(f"{name},inference,{batch},224,float32" for name in VARIANTS for batch in (1, 16)),
    ],
    "gpu": [
        f"{name},{mode},{batch},224,bfloat16"
        for batch in (128, 256)
        for name in VARIANTS
        for mode in ("inference", "training")
    ],
    "growth": [
        f"shunted_t,inference,{batch},{size},float32"
        for size, batches in _GROWTH.items()
        for batch in batches
    ],
}


@dataclasses.dataclass(frozen=True)
class Case:
    """What is run.

    Attributes:
        contestant: `ours`, or one of the names above.
        variant: a name that `create_model` takes.
        mode: "inference", or "training" for a whole step: gradients and AdamW.
        batch: images in a step.
        size: pixels on each side.
        dtype: of the computation, "float32" or "bfloat16".
        threads: of the CPU, on either side.
    """

    contestant: str
    variant: str
    mode: str
    batch: int
    size: int
    dtype: str
    threads: int

    @classmethod
    def parse(cls, text: str, contestant: str, threads: int) -> "Case":
        """Returns a contestant's case from `variant,mode,batch,size,dtype`."""
        variant, mode, batch, size, dtype = text.split(",")
        return cls(contestant, variant, mode, int(batch), int(size), dtype, threads)

    def __str__(self) -> str:
        """Returns what all contestants of it share, for people."""
        return f"{self.variant} {self.mode}, batch {self.batch}, {self.size} px, {self.dtype}"
