#include "affine.h"

#include <algorithm>
#include <cmath>

#include "simd.h"

namespace moco::image {
namespace {

// Which fractions of a pixel the places of a whole transform have. Three of RandAugment's four
// translations and shears stay on their row or column exactly, where PIL's interpolation across it
// gives the value itself.
enum class Along { kRows, kColumns, kBoth };

Along directionOf(const std::array<double, 6>& m) {
  if (m[3] == 0 && m[4] == 1 && m[5] == 0) return Along::kRows;
  if (m[0] == 1 && m[1] == 0 && m[2] == 0) return Along::kColumns;
  return Along::kBoth;
}

// The same for every processor, and for what is left of a row.

double cubic(double a, double b, double c, double d, double at) {
  const double linear = -a + c;
  const double square = 2 * (a - b) + c - d;
  const double cube = -a + b - c + d;
  return b + at * (linear + at * (square + at * cube));
}

double linear(double a, double b, double at) { return a + (b - a) * at; }

uint8_t clipped(double value) {
  return static_cast<uint8_t>(static_cast<int>(std::clamp(value, 0.0, 255.0)));
}

// `in` is the pixel to the left and above the place; dx and dy are what it is right and below.
uint8_t bicubicAt(const uint8_t* in, size_t stride, double dx, double dy) {
  // On a row, or on a column, the cubic across it gives the value itself.
  if (dy == 0) return clipped(cubic(in[-1], in[0], in[1], in[2], dx));
  if (dx == 0) {
    const uint8_t* below = in + stride;
    return clipped(cubic(*(in - stride), in[0], below[0], below[stride], dy));
  }
  double rows[4];
  const uint8_t* row = in - stride;
  for (int r = 0; r < 4; ++r, row += stride) rows[r] = cubic(row[-1], row[0], row[1], row[2], dx);
  return clipped(cubic(rows[0], rows[1], rows[2], rows[3], dy));
}

uint8_t bilinearAt(const uint8_t* in, size_t stride, double dx, double dy) {
  return clipped(linear(linear(in[0], in[1], dx), linear(in[stride], in[stride + 1], dx), dy));
}

void transformRow(const PaddedTile& in, const Affine& affine, int y, int from, Tile& out) {
  const std::array<double, 6>& m = affine.matrix;
  const double yAt = y + 0.5;
  for (int x = from; x < out.width; ++x) {
    const double xAt = x + 0.5;
    const double xIn = m[0] * xAt + m[1] * yAt + m[2];
    const double yIn = m[3] * xAt + m[4] * yAt + m[5];
    const size_t to =
        static_cast<size_t>(y) * static_cast<size_t>(out.width) + static_cast<size_t>(x);
    if (!(xIn >= 0 && xIn < out.width && yIn >= 0 && yIn < out.height)) {
      for (int c = 0; c < 3; ++c) out.plane(c)[to] = affine.fill[static_cast<size_t>(c)];
      continue;
    }
    const double left = std::floor(xIn - 0.5);
    const double top = std::floor(yIn - 0.5);
    const double dx = xIn - 0.5 - left;
    const double dy = yIn - 0.5 - top;
    const std::ptrdiff_t place =
        static_cast<std::ptrdiff_t>(top) * static_cast<std::ptrdiff_t>(in.stride()) +
        static_cast<std::ptrdiff_t>(left);
    for (int c = 0; c < 3; ++c) {
      const uint8_t* at = in.plane(c) + place;
      out.plane(c)[to] = affine.interpolation == Interpolation::kBicubic
                             ? bicubicAt(at, in.stride(), dx, dy)
                             : bilinearAt(at, in.stride(), dx, dy);
    }
  }
}

#if defined(MOCO_AVX2)

// Byte `kByte` of each of four integers.
template <int kByte>
MOCO_AVX2 inline __m128i byteAvx2(__m128i words) {
  return _mm_and_si128(_mm_srli_epi32(words, 8 * kByte), _mm_set1_epi32(255));
}

// b + at * (linear + at * (square + at * cube))
MOCO_AVX2 inline __m256d hornerAvx2(__m256d b, __m256d linear, __m256d square, __m256d cube,
                                    __m256d at) {
  const __m256d inner = _mm256_add_pd(square, _mm256_mul_pd(at, cube));
  return _mm256_add_pd(b, _mm256_mul_pd(at, _mm256_add_pd(linear, _mm256_mul_pd(at, inner))));
}

// The cubic of four whole numbers each: its coefficients are whole, too.
MOCO_AVX2 inline __m256d cubicAvx2(__m128i a, __m128i b, __m128i c, __m128i d, __m256d at) {
  const __m128i down = _mm_sub_epi32(a, b);
  const __m128i up = _mm_sub_epi32(c, d);
  const __m128i square = _mm_add_epi32(_mm_add_epi32(down, down), up);
  const __m128i cube = _mm_sub_epi32(_mm_setzero_si128(), _mm_add_epi32(down, up));
  return hornerAvx2(_mm256_cvtepi32_pd(b), _mm256_cvtepi32_pd(_mm_sub_epi32(c, a)),
                    _mm256_cvtepi32_pd(square), _mm256_cvtepi32_pd(cube), at);
}

// The cubic of four numbers each, every difference rounded in PIL's order.
MOCO_AVX2 inline __m256d cubicAvx2(const __m256d (&v)[4], __m256d at) {
  const __m256d linear = _mm256_sub_pd(v[2], v[0]);
  const __m256d down = _mm256_sub_pd(v[0], v[1]);
  const __m256d square = _mm256_sub_pd(_mm256_add_pd(_mm256_add_pd(down, down), v[2]), v[3]);
  const __m256d cube = _mm256_add_pd(_mm256_sub_pd(_mm256_sub_pd(v[1], v[0]), v[2]), v[3]);
  return hornerAvx2(v[1], linear, square, cube, at);
}

MOCO_AVX2 inline __m256d linearAvx2(__m256d a, __m256d difference, __m256d at) {
  return _mm256_add_pd(a, _mm256_mul_pd(difference, at));
}

// Four bytes from each of four places.
MOCO_AVX2 inline __m128i wordsAvx2(const uint8_t* in, __m128i places) {
  return _mm_i32gather_epi32(reinterpret_cast<const int*>(in), places, 1);
}

MOCO_AVX2 inline __m256d linearAvx2(__m128i a, __m128i b, __m256d at) {
  return linearAvx2(_mm256_cvtepi32_pd(a), _mm256_cvtepi32_pd(_mm_sub_epi32(b, a)), at);
}

// Whether the four are neighbours in a row.
MOCO_AVX2 inline bool neighboursAvx2(__m128i places) {
  const __m128i expected = _mm_add_epi32(_mm_broadcastd_epi32(places), _mm_setr_epi32(0, 1, 2, 3));
  return _mm_movemask_epi8(_mm_cmpeq_epi32(places, expected)) == 0xffff;
}

// Four bytes one after the other as integers.
MOCO_AVX2 inline __m128i fourAvx2(const uint8_t* bytes) {
  int32_t word;
  std::memcpy(&word, bytes, sizeof word);
  return _mm_cvtepu8_epi32(_mm_cvtsi32_si128(word));
}

// The same as below where the four places are neighbours, `step` apart from the pixels that are
// mixed: no gathering, which takes most of the time.
template <Interpolation kInterpolation>
MOCO_AVX2 inline __m256d neighbourValuesAvx2(const uint8_t* in, std::ptrdiff_t step, __m256d at) {
  if constexpr (kInterpolation == Interpolation::kBicubic) {
    return cubicAvx2(fourAvx2(in - step), fourAvx2(in), fourAvx2(in + step),
                     fourAvx2(in + 2 * step), at);
  } else {
    return linearAvx2(fourAvx2(in), fourAvx2(in + step), at);
  }
}

// Four places each, between pixels of one row.
MOCO_AVX2 inline __m256d cubicAcrossAvx2(const uint8_t* in, __m128i places, __m256d dx) {
  const __m128i words = wordsAvx2(in - 1, places);
  return cubicAvx2(byteAvx2<0>(words), byteAvx2<1>(words), byteAvx2<2>(words), byteAvx2<3>(words),
                   dx);
}

MOCO_AVX2 inline __m256d linearAcrossAvx2(const uint8_t* in, __m128i places, __m256d dx) {
  const __m128i words = wordsAvx2(in, places);
  return linearAvx2(byteAvx2<0>(words), byteAvx2<1>(words), dx);
}

MOCO_AVX2 inline __m128i pixelsAvx2(const uint8_t* in, __m128i places) {
  return byteAvx2<0>(wordsAvx2(in, places));
}

// Four places each; `in` is the pixel at (0, 0).
template <Interpolation kInterpolation, Along kAlong>
MOCO_AVX2 inline __m256d valuesAvx2(const uint8_t* in, std::ptrdiff_t stride, __m128i places,
                                    __m256d dx, __m256d dy) {
  if constexpr (kInterpolation == Interpolation::kBicubic) {
    if constexpr (kAlong == Along::kRows) {
      return cubicAcrossAvx2(in, places, dx);
    } else if constexpr (kAlong == Along::kColumns) {
      return cubicAvx2(pixelsAvx2(in - stride, places), pixelsAvx2(in, places),
                       pixelsAvx2(in + stride, places), pixelsAvx2(in + 2 * stride, places), dy);
    } else {
      const __m256d rows[4] = {
          cubicAcrossAvx2(in - stride, places, dx), cubicAcrossAvx2(in, places, dx),
          cubicAcrossAvx2(in + stride, places, dx), cubicAcrossAvx2(in + 2 * stride, places, dx)};
      return cubicAvx2(rows, dy);
    }
  } else {
    if constexpr (kAlong == Along::kRows) {
      return linearAcrossAvx2(in, places, dx);
    } else if constexpr (kAlong == Along::kColumns) {
      return linearAvx2(pixelsAvx2(in, places), pixelsAvx2(in + stride, places), dy);
    } else {
      const __m256d here = linearAcrossAvx2(in, places, dx);
      return linearAvx2(here, _mm256_sub_pd(linearAcrossAvx2(in + stride, places, dx), here), dy);
    }
  }
}

// A multiple of four pixels of a row; answers how many.
template <Interpolation kInterpolation, Along kAlong>
MOCO_AVX2 int transformRowAvx2(const PaddedTile& in, const Affine& affine, int y, Tile& out) {
  const std::array<double, 6>& m = affine.matrix;
  const __m256d yAt = _mm256_set1_pd(y + 0.5);
  const __m256d half = _mm256_set1_pd(0.5);
  const __m256d zero = _mm256_setzero_pd();
  const __m256d width = _mm256_set1_pd(out.width);
  const __m256d height = _mm256_set1_pd(out.height);
  const std::ptrdiff_t rowStep = static_cast<std::ptrdiff_t>(in.stride());
  const __m256d stride = _mm256_set1_pd(static_cast<double>(rowStep));
  const __m256d xDown = _mm256_mul_pd(_mm256_set1_pd(m[1]), yAt);
  const __m256d yDown = _mm256_mul_pd(_mm256_set1_pd(m[4]), yAt);
  const __m128i firstBytes =
      _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
  const size_t row = static_cast<size_t>(y) * static_cast<size_t>(out.width);
  const int whole = out.width / 4 * 4;
  const uint8_t* const from[3] = {in.plane(0), in.plane(1), in.plane(2)};
  uint8_t* const to[3] = {out.plane(0) + row, out.plane(1) + row, out.plane(2) + row};
  __m256d fill[3];
  uint32_t fourFills[3];
  for (int c = 0; c < 3; ++c) {
    fill[c] = _mm256_set1_pd(affine.fill[static_cast<size_t>(c)]);
    std::memset(&fourFills[c], affine.fill[static_cast<size_t>(c)], 4);
  }
  __m256d xAt = _mm256_setr_pd(0.5, 1.5, 2.5, 3.5);
  for (int x = 0; x < whole; x += 4, xAt = _mm256_add_pd(xAt, _mm256_set1_pd(4))) {
    const __m256d xIn = _mm256_add_pd(
        _mm256_add_pd(_mm256_mul_pd(_mm256_set1_pd(m[0]), xAt), xDown), _mm256_set1_pd(m[2]));
    const __m256d yIn = _mm256_add_pd(
        _mm256_add_pd(_mm256_mul_pd(_mm256_set1_pd(m[3]), xAt), yDown), _mm256_set1_pd(m[5]));
    const __m256d inside = _mm256_and_pd(
        _mm256_and_pd(_mm256_cmp_pd(xIn, zero, _CMP_GE_OQ), _mm256_cmp_pd(xIn, width, _CMP_LT_OQ)),
        _mm256_and_pd(_mm256_cmp_pd(yIn, zero, _CMP_GE_OQ),
                      _mm256_cmp_pd(yIn, height, _CMP_LT_OQ)));
    if (_mm256_movemask_pd(inside) == 0) {
      for (int c = 0; c < 3; ++c) std::memcpy(to[c] + x, &fourFills[c], 4);
      continue;
    }
    const __m256d xFrom = _mm256_sub_pd(xIn, half);
    const __m256d yFrom = _mm256_sub_pd(yIn, half);
    const __m256d left = _mm256_floor_pd(xFrom);
    const __m256d top = _mm256_floor_pd(yFrom);
    const __m256d dx = _mm256_sub_pd(xFrom, left);
    const __m256d dy = _mm256_sub_pd(yFrom, top);
    // Those outside read the pixel at (0, 0).
    const __m256d place = _mm256_and_pd(_mm256_add_pd(_mm256_mul_pd(top, stride), left), inside);
    const __m128i places = _mm256_cvttpd_epi32(place);
    const bool neighbours = kAlong != Along::kBoth && neighboursAvx2(places);
    const int first = _mm_cvtsi128_si32(places);
    for (int c = 0; c < 3; ++c) {
      const __m256d values =
          neighbours ? neighbourValuesAvx2<kInterpolation>(from[c] + first,
                                                           kAlong == Along::kRows ? 1 : rowStep,
                                                           kAlong == Along::kRows ? dx : dy)
                     : valuesAvx2<kInterpolation, kAlong>(from[c], rowStep, places, dx, dy);
      const __m256d within = _mm256_min_pd(_mm256_max_pd(values, zero), _mm256_set1_pd(255));
      const __m128i bytes = _mm256_cvttpd_epi32(_mm256_blendv_pd(fill[c], within, inside));
      const int32_t four = _mm_cvtsi128_si32(_mm_shuffle_epi8(bytes, firstBytes));
      std::memcpy(to[c] + x, &four, 4);
    }
  }
  return whole;
}

using RowKernel = int (*)(const PaddedTile&, const Affine&, int, Tile&);

template <Interpolation kInterpolation>
RowKernel rowKernelAlong(Along along) {
  if (along == Along::kRows) return transformRowAvx2<kInterpolation, Along::kRows>;
  if (along == Along::kColumns) return transformRowAvx2<kInterpolation, Along::kColumns>;
  return transformRowAvx2<kInterpolation, Along::kBoth>;
}

RowKernel rowKernel(const Affine& affine) {
  const Along along = directionOf(affine.matrix);
  return affine.interpolation == Interpolation::kBicubic
             ? rowKernelAlong<Interpolation::kBicubic>(along)
             : rowKernelAlong<Interpolation::kBilinear>(along);
}

#endif

}  // namespace

// PIL works in double precision and truncates, so every rounding is made as there.
void transform(Tile& tile, const Affine& affine, PaddedTile& scratch) {
  scratch.copy(tile);
#if defined(MOCO_AVX2)
  // Places are 32-bit numbers.
  constexpr size_t kLargest = size_t{1} << 30;
  if (hasAvx2() && tile.area() < kLargest) {
    const RowKernel kernel = rowKernel(affine);
    for (int y = 0; y < tile.height; ++y) {
      transformRow(scratch, affine, y, kernel(scratch, affine, y, tile), tile);
    }
    return;
  }
#endif
  for (int y = 0; y < tile.height; ++y) transformRow(scratch, affine, y, 0, tile);
}

}  // namespace moco::image
