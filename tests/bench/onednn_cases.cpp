// The same products by oneDNN, for comparison, where it is installed: weights in the layout it asks for, in
// bfloat16 on machines where it multiplies that, else in float32 (the name says which).
#include "tests/bench/cases.h"

#if defined(NEMO_ONEDNN)

#include <omp.h>

#include <oneapi/dnnl/dnnl.hpp>
#include <optional>

namespace nemo::bench {

namespace {

using dnnl::memory;

/// Some ordinary numbers: 0.0078 as floats, or as pairs of bfloat16.
memory filled(const memory::desc& description, const dnnl::engine& engine) {
  memory result(description, engine);
  std::fill_n(static_cast<uint32_t*>(result.get_data_handle()), description.get_size() / 4, 0x3c003c00u);
  return result;
}

/// oneDNN divides a product among the threads there are when it is made.
class Product {
 public:
  Product(int64_t rows, int64_t n, int64_t k, memory::data_type type) {
    const dnnl::matmul::primitive_desc chosen(
        {memory::desc({rows, k}, type, memory::format_tag::ab),
         memory::desc({k, n}, type, memory::format_tag::any),
         memory::desc({rows, n}, memory::data_type::f32, memory::format_tag::ab)},
        engine_);
    product_ = dnnl::matmul(chosen);
    x_ = filled(chosen.src_desc(), engine_);
    y_ = filled(chosen.dst_desc(), engine_);
    const auto weight_bytes = static_cast<int64_t>(chosen.weights_desc().get_size());
    for (int64_t bytes = 0; bytes < (int64_t{256} << 20); bytes += weight_bytes)
      weights_.push_back(filled(chosen.weights_desc(), engine_));
  }

  void run() {
    product_.execute(stream_, {{DNNL_ARG_SRC, x_}, {DNNL_ARG_WEIGHTS, weights_[next_]}, {DNNL_ARG_DST, y_}});
    stream_.wait();
    next_ = (next_ + 1) % weights_.size();
  }

 private:
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  dnnl::matmul product_;
  memory x_, y_;
  std::vector<memory> weights_;
  size_t next_ = 0;
};

Case onednn_case(int64_t rows, int64_t n, int64_t k) {
  const bool bf16 = kernels::detect_isa() >= kernels::Isa::kAvx512Bf16;
  const auto type = bf16 ? memory::data_type::bf16 : memory::data_type::f32;
  const double flops = 2.0 * static_cast<double>(rows * n * k);
  auto product = std::make_shared<std::optional<Product>>();
  return {.name = std::string("oneDNN ") + (bf16 ? "bf16 " : "fp32 ") + std::to_string(n) + "x" +
                  std::to_string(k) + ", " + std::to_string(rows) + " rows",
          .bytes = static_cast<double>(n * k) * (bf16 ? 2 : 4),
          .bf16_flops = bf16 ? flops : 0,
          .float32_flops = bf16 ? 0 : flops,
          .run = [=](const kernels::Context& context) {
            omp_set_num_threads(context.threads.num_threads());
            if (!*product) product->emplace(rows, n, k, type);
            (*product)->run();
          }};
}

}  // namespace

bool has_onednn() {
  return true;
}

std::vector<Case> onednn_cases() {
  std::vector<Case> cases;
  for (const int64_t rows : {1, 8, 128, 512}) cases.push_back(onednn_case(rows, 4096, 4096));
  cases.push_back(onednn_case(128, 8192, 4096));
  cases.push_back(onednn_case(128, 2688, 1024));
  cases.push_back(onednn_case(128, 1024, 2688));
  return cases;
}

}  // namespace nemo::bench

#else

namespace nemo::bench {

bool has_onednn() {
  return false;
}

std::vector<Case> onednn_cases() {
  return {};
}

}  // namespace nemo::bench

#endif
