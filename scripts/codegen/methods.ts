/**
 * ATen operators that are also methods of `Tensor`: those that PyTorch users write as `x.name(...)` most.
 *
 * What needs more than a call of the operator is written by hand in lib/torch/tensor.ts: `data`, `item`, `detach`, `to`, `backward`,
 * `grad`, `numel`, `requiresGrad_`.
 */
export const methods: readonly string[] = `
abs abs_ neg neg_ sign square sqrt sqrt_ rsqrt rsqrt_ reciprocal reciprocal_
exp exp_ expm1 log log_ log1p log2 log10 erf
sin cos tan asin acos atan atan2 sinh cosh tanh tanh_
floor floor_ ceil ceil_ round round_ trunc frac
add add_ sub sub_ mul mul_ div div_ pow pow_ remainder floor_divide
addmm addcmul addcmul_ addcdiv addcdiv_ lerp lerp_ maximum minimum
clamp clamp_ clamp_min clamp_min_ clamp_max clamp_max_ nan_to_num nan_to_num_
bitwise_and bitwise_or bitwise_xor bitwise_not logical_and logical_or logical_xor logical_not logical_not_
relu relu_ gelu silu sigmoid sigmoid_ softmax log_softmax
matmul mm bmm mv dot outer baddbmm inverse det norm
eq ne lt le gt ge equal allclose isclose isnan isinf isfinite
sum mean std var prod max min amax amin aminmax argmax argmin all any
median logsumexp cumsum cumprod count_nonzero bincount histc
reshape view view_as permute transpose t flatten unflatten squeeze squeeze_ unsqueeze unsqueeze_
expand expand_as broadcast_to repeat repeat_interleave tile flip roll movedim unfold as_strided
contiguous chunk split tensor_split unbind narrow select slice
diag diagonal trace tril triu
index index_select index_add index_add_ index_copy index_copy_ index_fill index_fill_ index_put index_put_
gather scatter scatter_ scatter_add scatter_add_ take take_along_dim
masked_fill masked_fill_ masked_select nonzero
sort argsort topk kthvalue
clone copy_ fill_ zero_ normal_ uniform_ random_ bernoulli bernoulli_ exponential_ multinomial
type_as new_empty new_zeros new_ones new_full
real imag conj angle view_as_real view_as_complex
`.trim().split(/\s+/);
