#include "seedImages.h"

#include <cstdint>
#include <cstdio>
// In some versions libjpeg's header does not say that it is C.
extern "C" {
#include <jpeglib.h>
}

#include <cstdlib>
#include <stdexcept>
#include <vector>

namespace moco::image {
namespace {

enum class Process { kSequential, kProgressive, kArithmetic, kScanPerComponent };

struct Layout {
  std::string name;
  J_COLOR_SPACE pixels;  // what is given
  J_COLOR_SPACE stored;  // what the file holds
  // Horizontal and vertical sampling of the components.
  std::vector<std::pair<int, int>> sampling;
};

const Layout kLayouts[] = {
    {"444", JCS_RGB, JCS_YCbCr, {{1, 1}, {1, 1}, {1, 1}}},
    {"422", JCS_RGB, JCS_YCbCr, {{2, 1}, {1, 1}, {1, 1}}},
    {"420", JCS_RGB, JCS_YCbCr, {{2, 2}, {1, 1}, {1, 1}}},
    {"440", JCS_RGB, JCS_YCbCr, {{1, 2}, {1, 1}, {1, 1}}},
    {"411", JCS_RGB, JCS_YCbCr, {{4, 1}, {1, 1}, {1, 1}}},
    {"410", JCS_RGB, JCS_YCbCr, {{4, 2}, {1, 1}, {1, 1}}},
    {"441", JCS_RGB, JCS_YCbCr, {{1, 4}, {1, 1}, {1, 1}}},
    {"mixed", JCS_RGB, JCS_YCbCr, {{2, 2}, {2, 1}, {1, 2}}},
    {"fineColour", JCS_RGB, JCS_YCbCr, {{1, 1}, {2, 2}, {2, 1}}},
    {"thirds", JCS_RGB, JCS_YCbCr, {{3, 1}, {1, 1}, {1, 1}}},
    {"rgb", JCS_RGB, JCS_RGB, {{1, 1}, {1, 1}, {1, 1}}},
    {"gray", JCS_GRAYSCALE, JCS_GRAYSCALE, {{1, 1}}},
    {"oddGray", JCS_GRAYSCALE, JCS_GRAYSCALE, {{2, 2}}},
    {"cmyk", JCS_CMYK, JCS_CMYK, {{1, 1}, {1, 1}, {1, 1}, {1, 1}}},
    {"ycck", JCS_CMYK, JCS_YCCK, {{2, 2}, {1, 1}, {1, 1}, {2, 2}}},
};

const std::pair<int, int> kSizes[] = {{1, 1}, {7, 3}, {16, 16}, {33, 29}, {131, 97}, {200, 30}};

const std::pair<const char*, Process> kProcesses[] = {
    {"sequential", Process::kSequential},
    {"progressive", Process::kProgressive},
    {"arithmetic", Process::kArithmetic},
    {"scans", Process::kScanPerComponent},
};

// Smooth colours with some noise, so that all coefficients occur.
uint8_t sample(int x, int y, int component, uint32_t& noise) {
  noise = noise * 1664525U + 1013904223U;
  const int value = x * (component + 1) * 2 + y * (3 - component) + static_cast<int>(noise >> 27);
  return static_cast<uint8_t>((x / 9 + y / 7) % 2 == 0 ? value : 255 - value);
}

void write(const std::string& path, const Layout& layout, int width, int height, Process process,
           int restart) {
  jpeg_compress_struct info;
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) throw std::runtime_error("cannot write " + path);
  jpeg_stdio_dest(&info, file);
  const int components = static_cast<int>(layout.sampling.size());
  info.image_width = static_cast<JDIMENSION>(width);
  info.image_height = static_cast<JDIMENSION>(height);
  info.input_components = components;
  info.in_color_space = layout.pixels;
  jpeg_set_defaults(&info);
  jpeg_set_colorspace(&info, layout.stored);
  jpeg_set_quality(&info, 80, TRUE);
  for (int i = 0; i < components; ++i) {
    info.comp_info[i].h_samp_factor = layout.sampling[static_cast<size_t>(i)].first;
    info.comp_info[i].v_samp_factor = layout.sampling[static_cast<size_t>(i)].second;
  }
  info.restart_interval = static_cast<unsigned int>(restart);
  jpeg_scan_info scans[4] = {};
  if (process == Process::kProgressive) jpeg_simple_progression(&info);
  if (process == Process::kArithmetic) info.arith_code = TRUE;
  if (process == Process::kScanPerComponent) {
    for (int i = 0; i < components; ++i) scans[i] = {1, {i, 0, 0, 0}, 0, 63, 0, 0};
    info.scan_info = scans;
    info.num_scans = components;
  }
  jpeg_start_compress(&info, TRUE);
  std::vector<uint8_t> row(static_cast<size_t>(width * components));
  uint32_t noise = 1;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < components; ++c) {
        row[static_cast<size_t>(x * components + c)] = sample(x, y, c, noise);
      }
    }
    JSAMPROW rows[1] = {row.data()};
    jpeg_write_scanlines(&info, rows, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  std::fclose(file);
}

}  // namespace

void writeSeedImages(const std::string& folder) {
  int number = 0;
  for (const Layout& layout : kLayouts) {
    for (const auto& [process, kind] : kProcesses) {
      for (const auto& [width, height] : kSizes) {
        const int restart = ++number % 3 == 0 ? 1 + number % 5 : 0;
        const std::string path = folder + "/" + layout.name + "-" + process + "-" +
                                 std::to_string(width) + "x" + std::to_string(height) + ".jpg";
        write(path, layout, width, height, kind, restart);
      }
    }
  }
}

}  // namespace moco::image
