"""The declared options, one class a table (or a part of one that a `name` chooses), each field explained at the field.

Every option that stands here decides a result and is part of a configuration's key, but for `Resources`. Zero means
"off" where an option can be off; there is no null. The classes are strict: an integer refuses 1.0 and true, a float
takes 1 for 1.0, a string is never read as a number.

An option that is added when there are results already is left out of the settings where it holds the value that means
"as before" (`identity.LATER`): else every stored result would lose its key.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from nnscan.dotted import is_dotted

STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def _without_sign_of_zero(value: float) -> float:
    return value + 0.0  # -0.0 and 0.0 are one value, so they must have one key


def _dotted(name: str) -> str:
    if not is_dotted(name):
        raise ValueError(f'found "{name}"; accepted: "package.module:function"')
    return name


def _named_weights(name: str) -> str:
    if name == "DEFAULT":
        raise ValueError('"DEFAULT" is other weights from one torchvision to the next; write, say, "IMAGENET1K_V1"')
    return name


def _apart(ranges: list[list[int]]) -> list[list[int]]:
    """Refuse ranges that begin where none ends, or that share a label: which class would that be?"""
    taken: set[int] = set()
    for bounds in ranges:
        if len(bounds) % 2:
            raise ValueError(f"found {bounds}; accepted: two numbers a range, the first label and the last")
        for first, last in zip(bounds[::2], bounds[1::2], strict=True):
            labels = set(range(first, last + 1))
            if not labels or labels & taken:
                wrong = f"shares label {min(labels & taken)} with another range" if labels else "ends before it begins"
                raise ValueError(f"the range {first} to {last} {wrong}")
            taken |= labels
    return ranges


def _whole_above_one(gpus: float) -> float:
    if gpus > 1 and not gpus.is_integer():
        raise ValueError(f"found {gpus}; accepted: a fraction up to 1 (trials share a GPU), or a whole number")
    return gpus


def _each_once(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError(f"found {names}; accepted: each once")
    return sorted(names)  # in another order they ask for the same, so they must have one key


Number = Annotated[float, AfterValidator(_without_sign_of_zero)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
ShareBelowOne = Annotated[Number, Field(ge=0, lt=1)]
OpenShare = Annotated[Number, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
CountOrZero = Annotated[int, Field(ge=0, le=2**31 - 1)]
DottedPath = Annotated[str, AfterValidator(_dotted), Field(description='"package.module:function"')]
Weights = Annotated[
    str,
    Field(
        pattern=r"^(none|sha256:[0-9a-f]{64}|[A-Z][A-Z0-9_]*)$",
        description=(
            '"none", a name such as "IMAGENET1K_V1", the path of a file of weights or of a model folder, or "sha256:"'
            " and 64 hex digits"
        ),
    ),
    AfterValidator(_named_weights),
]
WarmStart = Annotated[
    str,
    Field(
        pattern=r"^(none|sha256:[0-9a-f]{64})$",
        description='"none", the path of a file of weights or of a model folder, or "sha256:" and 64 hex digits',
    ),
]
"""Paths become "sha256:..." before a value is checked (`nnscan.weight_files`)."""

ClassRanges = Annotated[
    list[Annotated[list[Annotated[int, Field(ge=0, le=999)]], Field(min_length=2)]],
    Field(description="a list a class: first and last of ImageNet's 1,000 labels, once or more often"),
    AfterValidator(_apart),
]
Arguments = dict[str, Any]
"""Keyword arguments of a user's function: JSON values that keep their TOML type."""


class Options(BaseModel):
    """Base of all declared options: strict, without unknown ones, frozen."""

    model_config = STRICT


# ------------------------------------------------------------------------------------------------ data


class Augmentation(Options):
    """What is done to the training images of a batch, anew each epoch."""

    crop_padding: CountOrZero = 0
    """Pixels of zeros put around an image before a crop of the old size is taken at random; 0: off."""

    horizontal_flip: bool = False
    """Mirror every image with probability 1/2."""

    cutout: CountOrZero = 0
    """Side, in pixels, of a square that is blanked out at random (DeVries and Taylor 2017); 0: off."""


class Data(Options):
    """What all data have in common."""

    normalization: Literal["standard", "global", "none", "imagenet"] = "standard"
    """With "standard" mean 0 and standard deviation 1 per channel, with "global" of all channels together, as measured
    on the training part; with "imagenet" as measured on ImageNet, for weights that were trained so: three channels."""

    augmentation: Augmentation = Augmentation()


class Digits(Data):
    """The 1,797 handwritten digits that come with scikit-learn, 8x8 pixels; nothing is downloaded."""

    name: Literal["digits"]
    test: OpenShare = 0.2
    """Fraction set apart first as the test set, stratified, by `training.seed`."""


class KnownData(Data):
    """A data set with a test set of its own, read by torchvision."""

    name: Literal["mnist", "fashion_mnist", "cifar10"]


class MnistPairs(Data):
    """Pairs of MNIST's digits, 14x14 pixels each; another draw in each replicate."""

    name: Literal["mnist_pairs"]
    pairs: Annotated[int, Field(ge=1, le=30_000)] = 1000
    """Of the 60,000 training images; none is in two pairs."""

    test_pairs: Annotated[int, Field(ge=1, le=5_000)] = 1000
    """Of the 10,000 test images."""


class ImageFolder(Data):
    """Images in one folder a class."""

    name: Literal["image_folder"]
    size: Count
    """Pixels: every image is resized to `size` x `size` once, when the cache is built."""

    color: Literal["rgb", "grey"] = "rgb"
    test: ShareBelowOne = 0.0
    """Fraction set apart first as the test set; 0: folders `train` and `test` (or `val`) stand below the root."""


class DataFunction(Data):
    """Data from a user's function."""

    name: DottedPath
    """A dotted path: package.module:function."""

    arguments: Arguments = {}
    test: ShareBelowOne = 0.0
    """Fraction set apart first as the test set; 0: the function gives one."""


# ------------------------------------------------------------------------------------------------ model


class MLP(Options):
    """Dense layers on the flattened image."""

    name: Literal["mlp"]
    width: Count = 64
    """Units of each hidden layer."""

    depth: CountOrZero = 2
    """Number of hidden layers; 0: a linear classifier."""

    dropout: ShareBelowOne = 0.0
    """Probability with which a hidden unit is dropped in training; 0: off."""

    activation: Literal["relu", "tanh", "sigmoid", "gelu"] = "relu"
    output_activation: Literal["none", "sigmoid"] = "none"
    """With "sigmoid" outputs lie in (0, 1), for `task.loss = "mse"`."""


class SkipMLP(Options):
    """Dense blocks on the flattened image, each with a bridge from its input to its output."""

    name: Literal["skip_mlp"]
    widths: Annotated[list[Count], Field(min_length=1)] = [128, 64, 64]
    """Units of the first layer, and of each block behind it."""

    dropout: ShareBelowOne = 0.5
    """Probability with which a unit within a block is dropped in training; 0: off."""


class CNN(Options):
    """A small convolutional network: one block for each entry of `channels`."""

    name: Literal["cnn"]
    channels: Annotated[list[Count], Field(min_length=1)] = [32, 64]
    """Channels of each block; each block halves the image while it has 2 pixels or more."""

    kernel_size: Count = 3
    """Pixels of a side of each filter."""

    batch_norm: bool = True
    dropout: ShareBelowOne = 0.0
    """Probability with which a unit is dropped after each block; 0: off."""

    skip: bool = False
    """Add each block's input to its output (a 1x1 convolution where the channels differ)."""

    hidden_units: CountOrZero = 0
    """Units of a dense layer before the head; 0: none."""


class PlainCNN(Options):
    """Four 3x3 convolutions and a linear head."""

    name: Literal["cnn1", "cnn2", "cnn3"]
    hidden_units: Annotated[int, Field(ge=4, le=2**31 - 4, multiple_of=4, description="a multiple of 4")] = 128
    """Channels of the first convolution; cnn3 has a half, a quarter and a quarter of as many in the others."""

    dropout: ShareBelowOne = 0.5
    """Probability with which a feature is dropped in front of the head; 0: off."""


class LeNet(Options):
    """Unpadded convolutions, each pooled, then dense layers."""

    name: Literal["lenet"]
    channels: Annotated[list[Count], Field(min_length=1)] = [6, 16]
    """Channels of each convolution."""

    kernel_size: Count = 5
    """Pixels of a side of each filter."""

    dense_units: Annotated[list[Count], Field(min_length=1)] = [120, 84]
    """Units of each dense layer in front of the head."""


class FullyConvolutional(Options):
    """Convolutions alone: the mean of the last one's map of a class is the class's logit."""

    name: Literal["fully_convolutional"]
    channels: Annotated[list[Count], Field(min_length=1)] = [64, 128, 256, 128, 64]
    """Channels of each block; each block halves the image while it has 2 pixels or more."""

    kernel_size: Count = 3
    """Pixels of a side of each filter."""

    dropout: ShareBelowOne = 0.3
    """Probability with which a whole channel is dropped after each block; 0: off."""


class CIFARNet(Options):
    """Five convolutions and two dense layers of 1,024 units."""

    name: Literal["cifarnet"]
    dropout: ShareBelowOne = 0.5
    """Probability with which an input of a dense layer is dropped; 0: off."""


class PairNetwork(Options):
    """A network for pairs of images: one that sees both at once, or one whose weights both share."""

    name: Literal["pair", "siamese"]
    first_channels: Count = 32
    """Channels of the first convolution, of 3x3 pixels."""

    second_channels: Count = 64
    """Channels of the second, which sees all that the first leaves."""

    hidden_units: Count = 256
    """Units of the dense layer behind them."""

    batch_norm: bool = True
    skip: bool = True
    """Add to each convolution what a dense layer makes of the images."""


class TorchvisionModel(Options):
    """One of torchvision's classifiers, with a head that fits the classes."""

    name: Annotated[str, Field(pattern=r"^torchvision:\w+$", description='"torchvision:NAME"')]
    """One of `torchvision.models.list_models(module=torchvision.models)`."""

    weights: Weights = "none"
    """Where training starts, but for the head; a path becomes the SHA-256 of what is there."""

    input_size: CountOrZero = 0
    """Pixels to which images are resized in front of the network; 0: as they come."""

    class_ranges: ClassRanges = []
    """The network keeps ImageNet's 1,000 outputs, and a class has the largest of its labels'; []: a head of its own."""


class ModelFunction(Options):
    """A network from a user's function."""

    name: DottedPath
    """A dotted path: package.module:function."""

    arguments: Arguments = {}


# ------------------------------------------------------------------------------------------------ optimizer


class Constant(Options):
    """The learning rate stays."""

    name: Literal["constant"] = "constant"


class Step(Options):
    """The learning rate is multiplied by `factor` after each `every` epochs."""

    name: Literal["step"]
    every: Count
    """Epochs."""

    factor: Positive = 0.1


class Cosine(Options):
    """The learning rate falls along half a cosine, to `final_fraction` of itself (Loshchilov and Hutter 2017)."""

    name: Literal["cosine"]
    final_fraction: Share = 0.0
    """Learning rate at the end, as a fraction of `learning_rate`."""


class OneCycle(Options):
    """The learning rate rises to its peak and falls, a step a batch (Smith and Topin 2018)."""

    name: Literal["one_cycle"]
    warmup_fraction: OpenShare = 0.3
    """Part of all steps in which it rises."""

    initial_fraction: Share = 0.04
    """Learning rate at the start, as a fraction of `learning_rate`, which is the peak."""

    final_fraction: Share = 0.0001
    """Learning rate at the end, as a fraction of `learning_rate`."""


Schedule = Annotated[Constant | Step | Cosine | OneCycle, Field(discriminator="name")]


class SGD(Options):
    """Stochastic gradient descent."""

    name: Literal["sgd"]
    learning_rate: Positive = 0.01
    """Above 0: what an untrained network scores stands in every trial as epoch 0."""

    momentum: ShareBelowOne = 0.0
    nesterov: bool = False
    """Nesterov's momentum; needs `momentum` above 0."""

    weight_decay: NotNegative = 0.0
    schedule: Schedule = Constant()


class Adam(Options):
    """Adam (Kingma and Ba 2015)."""

    name: Literal["adam"]
    learning_rate: Positive = 0.001
    betas: Annotated[list[ShareBelowOne], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    """Decay rates of the running means of the gradient and of its square."""

    epsilon: Positive = 1e-8
    weight_decay: NotNegative = 0.0
    """Added to the gradient, as an L2 penalty is."""

    schedule: Schedule = Constant()


class AdamW(Adam):
    """Adam with weight decay apart from the gradient (Loshchilov and Hutter 2019)."""

    name: Literal["adamw"]  # type: ignore[assignment]
    weight_decay: NotNegative = 0.01


# ------------------------------------------------------------------------------------------------ task, training


class Classification(Options):
    """One class an example."""

    name: Literal["classification"] = "classification"
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    """With "mse" the mean squared error against one-hot labels."""

    label_smoothing: ShareBelowOne = 0.0
    """Probability spread evenly over all classes (Szegedy et al. 2016); with "cross_entropy" alone."""


class Pairs(Options):
    """Which of two digits is greater, with a loss of the comparison and one of the digits."""

    name: Literal["pairs"]
    head_weight: NotNegative = 1.0
    """Of the loss of the head that compares."""

    digit_weight: NotNegative = 0.31622776601683794
    """Of the losses of the two heads that read a digit each; the default is 10^-0.5."""

    prediction: Literal["head", "digits"] = "head"
    """With "digits" the two digits that are read are compared."""


class TaskFunction(Options):
    """A task of a user's own: what its function or class returns says loss and prediction."""

    name: DottedPath
    """A dotted path: package.module:function."""

    arguments: Arguments = {}
    metrics: list[str] = []
    """Names of what it measures beyond loss and accuracies; columns have "val_" before them."""


class EarlyStopping(Options):
    """Says when a training stops, never which of its epochs is best."""

    patience: CountOrZero = 0
    """Epochs without a better `monitor` after which it stops; 0: never."""

    monitor: Literal["val_loss", "val_accuracy"] = "val_loss"


Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]


class Training(Options):
    """nnscan's own training."""

    epochs: CountOrZero
    """0: the network is evaluated as it stands."""

    batch_size: Count = 64
    """Images a step, of all processes together."""

    accumulation: Count = 1
    """Parts of a batch that are trained one after another, their gradients added up, before the one step."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Never chosen by the device."""

    seed: Seed = 0
    gradient_clip: NotNegative = 0.0
    """Largest global L2 norm of the gradient; 0: off."""

    keep: Literal["none", "best"] = "none"
    """Which weights of a trial stay on disk."""

    keep_every: CountOrZero = 0
    """Epochs between weights that stay on disk beside those, of retrainings too; 0: none do."""

    steps: Annotated[list[Literal["loss", "accuracy", "gradient_norms"]], AfterValidator(_each_once)] = []
    """What is recorded of every step, in the table steps/."""

    warm_start: WarmStart = "none"
    """Weights that training starts from, the head's too where the classes are as many; a path becomes the SHA-256."""

    early_stopping: EarlyStopping = EarlyStopping()


class TrainingFunction(Options):
    """A user's training function: a generator that yields a dict of floats an epoch."""

    function: DottedPath
    """A dotted path: package.module:function."""

    arguments: Arguments = {}
    metrics: Annotated[list[str], Field(min_length=1)]
    """Names of all that it yields."""

    epochs: Count
    """At most so many dicts are taken."""

    seed: Seed = 0


# ------------------------------------------------------------------------------------------------ whole scan


class Validation(Options):
    """What both ways of validating have in common."""

    stratified: bool = True
    """Each part holds the classes in the same proportions."""

    replicates: Count = 1
    """How often each training is repeated with other draws; no part of a configuration's key."""


class Folds(Validation):
    """Validation on each of k parts in turn."""

    folds: Annotated[int, Field(ge=2, le=2**31 - 1)]


class HoldOut(Validation):
    """Validation on one part."""

    holdout: OpenShare = 0.2
    """Fraction of the training images that validates."""


class Selection(Options):
    """What chooses; no part of a configuration's key."""

    metric: str = ""
    """Names the best epoch and ranks; without it "val_accuracy", or a training function's first metric."""


class Resources(Options):
    """Where and how fast, never what comes out; no part of a configuration's key."""

    processes_per_trial: CountOrZero = 0
    """Processes that train one trial together; 0: one a GPU, without GPUs one a node."""

    nodes_per_trial: Count = 1
    """Nodes that the processes of one trial are spread over evenly."""

    cpus_per_trial: Count = 1
    """CPU cores of one trial, of all its processes together: at least one each; a core is a thread."""

    gpus_per_trial: Annotated[NotNegative, AfterValidator(_whole_above_one)] = 0.0
    """GPUs of one trial: a fraction, or a whole number."""

    checkpoint_minutes: NotNegative = 5.0
    """Minutes between checkpoints; 0: none by time."""

    checkpoint_epochs: CountOrZero = 0
    """Epochs between checkpoints; 0: none by epochs."""

    deterministic: bool = False
    """Take only operations that give the same bits every time; on a GPU slower, on the CPU all of them do."""

    @property
    def processes(self) -> int:
        """Processes of one trial."""
        return self.processes_per_trial or max(1, int(self.gpus_per_trial), self.nodes_per_trial)

    @property
    def cpus(self) -> int:
        """CPU cores of one trial."""
        return max(self.cpus_per_trial, self.processes)

    @property
    def threads(self) -> int:
        """Threads of each process."""
        return self.cpus // self.processes


SECTIONS: dict[str, tuple[type[Options], ...]] = {
    "data": (Digits, KnownData, MnistPairs, ImageFolder, DataFunction),
    "model": (
        MLP,
        SkipMLP,
        CNN,
        PlainCNN,
        LeNet,
        FullyConvolutional,
        CIFARNet,
        PairNetwork,
        TorchvisionModel,
        ModelFunction,
    ),
    "optimizer": (SGD, Adam, AdamW),
    "task": (Classification, Pairs, TaskFunction),
    "training": (Training, TrainingFunction),
}
"""The tables that a grid may vary. Of several classes the table's `name` chooses; of `training` the second, where there
is a `function`."""

VALIDATION: tuple[type[Options], ...] = (HoldOut, Folds)
"""The second, where there are `folds`."""
