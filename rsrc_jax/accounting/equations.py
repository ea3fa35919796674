"""What one equation of a jaxpr costs: products, and elementwise arithmetic.

Conventions: see flops.py.
"""

import functools
import math

import jax
import numpy as np

PRODUCTS = ("dot_general", "conv_general_dilated", "ragged_dot_general")
# Movement, communication and bookkeeping: no arithmetic.
_MOVES = """
  after_all all_gather all_gather_invariant all_gather_reduced all_to_all
  axis_index bitcast_convert_type broadcast_in_dim complex concatenate
  convert_element_type copy copy_p create_token custom_lin debug_callback
  debug_print device_put dynamic_slice dynamic_update_slice empty empty2
  from_edtype gather get imag iota layout_constraint mesh_cast name
  optimization_barrier pad pbroadcast pcast pmax pmin ppermute program_id psum
  psum2 psum_invariant psum_scatter pvary ragged_all_to_all real
  reduce_precision reduce_scatter reshape reshard rev scatter select_n
  sharding_constraint slice split squeeze stack stop_gradient swap tile
  to_edtype transpose unreduced_psum unstack
"""
# One operation for each element that is written, or, of a primitive that begins
# with one of the prefixes, for each that is read. What is in no list is counted
# so too, and named in Count.unseen: it may hide products.
_ARITHMETIC = """
  abs acos acosh add add_any addupdate asin asinh atan atan2 atanh bessel_i0e
  bessel_i1e cbrt ceil clamp conj cos cosh digamma div eq eq_to erf erf_inv erfc
  exp exp2 expm1 floor ge gt igamma igamma_grad_a igammac integer_pow is_finite
  le le_to lgamma log log1p log2 logistic lt lt_to max min mul ne neg nextafter
  one_minus_square polygamma pow random_gamma regularized_incomplete_beta rem
  rng_uniform round rsqrt sign sin sinh sqrt square sub tan tanh zeta
"""
READING = (
  "approx_top_k", "arg", "cum", "reduce", "scatter", "select_and_", "sort",
  "top_k",
)  # fmt: skip
MOVES = frozenset(_MOVES.split())
ARITHMETIC = frozenset(_ARITHMETIC.split())


def products(eqn) -> int:
  """2 * M * N * K of a product, batched, grouped or dilated."""
  params = eqn.params
  left, right = (x.aval.shape for x in eqn.invars[:2])
  if eqn.primitive.name == "dot_general":
    (_, contract), (_, batch) = params["dimension_numbers"]
    shared = {*contract, *batch}
  elif eqn.primitive.name == "ragged_dot_general":
    # Every row of the left meets one group of the right.
    numbers = params["ragged_dot_dimension_numbers"]
    (_, contract), (_, batch) = numbers.dot_dimension_numbers
    shared = {*contract, *batch, *numbers.rhs_group_dimensions}
  else:
    return _convolution_of(eqn, left, right)
  free = (n for i, n in enumerate(right) if i not in shared)
  return 2 * math.prod(left) * math.prod(free)


def _convolution_of(eqn, left: tuple, right: tuple) -> int:
  params = eqn.params
  numbers, out = params["dimension_numbers"], eqn.outvars[0].aval.shape
  dims = zip(
    (left[i] for i in numbers.lhs_spec[2:]),
    (right[i] for i in numbers.rhs_spec[2:]),
    (out[i] for i in numbers.out_spec[2:]),
    params["window_strides"],
    (low for low, _ in params["padding"]),
    params["lhs_dilation"],
    params["rhs_dilation"],
    strict=True,
  )
  rows, features = (out[i] for i in numbers.out_spec[:2])
  return convolution(rows * features, right[numbers.rhs_spec[1]], dims)


def convolution(outputs: int, inputs: int, dims) -> int:
  """2 * outputs * inputs * taps; taps on padding and between dilated not.

  So the gradients of a convolution cost what it costs, and XLA counts alike.
  outputs: rows x output features; inputs: features of a group; dims: of each
  spatial one its size, kernel, output size, stride, padding below, and
  dilation of the input and of the kernel.
  """
  taps = 1
  for size, kernel, out, stride, low, spread, dilation in dims:
    at = np.arange(out)[:, None] * stride - low + np.arange(kernel) * dilation
    inside = (at >= 0) & (at <= (size - 1) * spread) & (at % spread == 0)
    taps *= int(np.sum(inside))
  return 2 * outputs * inputs * taps


@functools.cache
def _floating(dtype) -> bool:
  return dtype is not None and jax.dtypes.issubdtype(dtype, np.inexact)


def touches_floats(eqn) -> bool:
  """Whether an input or an output of the equation is a floating array."""
  variables = (*eqn.invars, *eqn.outvars)
  return any(_floating(getattr(x.aval, "dtype", None)) for x in variables)


def elementwise(eqn) -> int:
  """Floating operations, by the sizes that the lists above speak of."""
  if not touches_floats(eqn):
    return 0
  name, times = eqn.primitive.name, 1
  sized = eqn.outvars or eqn.invars[1:2]
  if name.startswith("reduce_window"):
    times = math.prod(eqn.params["window_dimensions"])
  elif name.startswith("scatter"):
    sized = eqn.invars[2:3]  # the updates
  elif name.startswith(READING):
    sized = eqn.invars[:1]
  return times * sum(math.prod(getattr(x.aval, "shape", ())) for x in sized)
