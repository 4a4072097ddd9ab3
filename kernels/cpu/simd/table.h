// The row kernels of one instruction set. Ops check shapes and divide work in baseline code and call these on
// plain pointers; see vector.h for why nothing richer may cross.
#pragma once

#include <limits>

#include "kernels/context.h"
#include "kernels/ops/logits.h"
#include "kernels/weight_format.h"

namespace nemo::kernels {

/// Rows a tile of vectors has at most: 6 rows x 64 columns fill the 32 registers of AVX-512.
inline constexpr int64_t kVectorTileRows = 6;
/// Output columns of a packed block.
inline constexpr int64_t kBlockColumns = 64;
/// Channels causal_conv_silu works on at a time, and taps it can have.
inline constexpr int64_t kConvChannels = 256;
inline constexpr int64_t kConvMaxTaps = 8;
/// Columns tree_sum works on at a time.
inline constexpr int64_t kTreeColumns = 256;

/// How an instruction set divides the rows of a matrix product.
struct TileShape {
  int64_t most_rows = 0;
  int64_t row_unit = 1;   ///< x and y have room for so many rows, or a multiple
  int64_t step_unit = 1;  ///< likewise x for steps; sums are only interrupted at multiples
  /// One row alone waits for memory, which vectors read fastest in several streams at once: of so many
  /// blocks.
  int64_t streams = 4;
  /// One tile of rows reads all of a block in one go if it is to ask for what lies so many bytes ahead; 0: by
  /// pieces, as several do.
  int64_t stream_ahead = 0;
  /// Bytes of weights that a few tiles run through before the next ones: vectors find them in L1 again.
  int64_t short_piece = 16 << 10;
};

/// One tile of y: up to TileShape::most_rows rows times one packed block; or one row times several.
struct MatmulTile {
  const void* x = nullptr;       ///< as pack_x leaves it, from the first step on
  const void* weight = nullptr;  ///< the block, from the first step on
  int64_t steps = 0;             ///< how far to sum: steps of k (float32) or of 2 k (bfloat16)
  int64_t rows = 0;
  float* y = nullptr;  ///< [rows in whole units, kBlockColumns]
  int64_t y_stride = 0;
  bool resume = false;      ///< the sum goes on from what y holds
  int64_t blocks = 1;       ///< of one row: y has kBlockColumns for each
  int64_t block_bytes = 0;  ///< from one block to the next
  /// What will be read soon, to be fetched meanwhile at an even pace: as many bytes as these weights have, or
  /// one in `ahead_share` of that. Null: nothing.
  const void* ahead = nullptr;
  int64_t ahead_share = 1;
};

/// A run of one sequence's rows through kConvChannels channels of the convolution.
struct ConvRun {
  const float* u = nullptr;
  int64_t u_stride = 0;
  float* v = nullptr;
  int64_t v_stride = 0;
  int64_t rows = 0;
  int64_t channels = 0;           ///< <= kConvChannels
  int64_t taps = 0;               ///< <= kConvMaxTaps
  const float* weight = nullptr;  ///< [taps, kConvChannels]
  const float* bias = nullptr;    ///< [kConvChannels]
  float* past = nullptr;          ///< taps - 1 rows of state
  int64_t past_stride = 0;
  bool from_zero = false;
  DType dtype = DType::kFloat32;
};

/// Tokens that pass through a tile of state while it lies in registers.
inline constexpr int64_t kScanTokens = 32;

/// A run of one sequence's rows through some heads of the recurrence that share B and C.
struct ScanRun {
  const float* x = nullptr;  ///< [rows, heads * head_dim], rows xbc_stride apart
  const float* b = nullptr;  ///< [rows, state_size] likewise
  const float* c = nullptr;
  int64_t xbc_stride = 0;
  const float* dt_raw = nullptr;  ///< [rows, heads], rows dt_stride apart
  int64_t dt_stride = 0;
  float* y = nullptr;  ///< [rows, heads * head_dim]
  int64_t y_stride = 0;
  int64_t rows = 0;
  int64_t heads = 0;
  int64_t head_dim = 0;
  int64_t state_size = 0;
  const float* a_log = nullptr;  ///< [heads]
  const float* d = nullptr;
  const float* dt_bias = nullptr;
  float dt_min = 0, dt_max = 0;
  float* state = nullptr;    ///< [heads, state_size, head_dim]
  float* scratch = nullptr;  ///< scratch_floats

  /// For a chunk of tokens: x and y with head_dim in whole vectors of any instruction set, B and C with
  /// state_size in whole tiles of 4 and a line more for each.
  static int64_t scratch_floats(int64_t head_dim, int64_t state_size) {
    return 2 * kScanTokens * (head_dim + 15) + (state_size + 3) * (2 * kScanTokens + 4);
  }
};

/// What is remembered of one query's softmax over a stretch of a sequence, or over several.
struct SoftmaxState {
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;
};

/// One push of a tree sum's postfix program: weight * input, then `merges` times: the two topmost values are
/// added.
struct TreeStep {
  const float* input = nullptr;
  float weight = 1.0f;
  int32_t merges = 0;
};

struct RowKernels {
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float epsilon, DType dtype, float* y);
  void (*gated_rms_norm)(const float* x, const float* gate, const float* weight, int64_t n, float epsilon,
                         float* out);
  void (*relu2)(float* x, int64_t n);
  void (*add_residual)(const float* delta, int64_t n, DType dtype, float* stream);
  void (*add)(const float* x, int64_t n, float* y);
  void (*round_bf16)(float* x, int64_t n);
  void (*to_bf16)(const float* x, int64_t n, uint16_t* y);
  void (*to_float)(const uint16_t* x, int64_t n, float* y);
  void (*sigmoid)(const float* x, int64_t n, float* y);
  void (*softplus)(const float* x, int64_t n, float* y);
  void (*silu)(const float* x, int64_t n, float* y);
  void (*exp)(const float* x, int64_t n, float* y);
  void (*logit_stats)(const float* x, int64_t n, LogitStats* stats);

  TileShape (*tile_shape)(DType dtype);
  /// Around all calls of matmul_tile that a thread makes in one task.
  void (*begin_tiles)();
  void (*end_tiles)();
  /// Bytes a step of one row takes in a packed tile of x.
  int64_t (*x_step_bytes)(DType dtype);
  /// unit * x [rows, k], rows x_stride apart -> the layout matmul_tile reads: [steps, rows], or what the
  /// instruction set has instead. A unit other than 1 is only for bfloat16 that is read in float32.
  void (*pack_x)(DType dtype, float unit, const float* x, int64_t x_stride, int64_t rows, int64_t k,
                 void* packed);
  void (*matmul_tile)(DType dtype, const MatmulTile& tile);
  /// The same of quantized weights and x in bfloat16, of up to quantized_rows rows: widened on the way. A
  /// step is as in the packed x; where x is read in float32 too (widened_type), that is in its unit.
  void (*quantized_tile)(WeightFormat format, const MatmulTile& tile);
  int64_t quantized_rows;
  /// What quantized weights are widened to for x in `dtype`: bfloat16, or float32 also where products of
  /// bfloat16 are made of floats. There, a packed tile of x in bfloat16 is one in float32 too.
  DType (*widened_type)(DType dtype);
  /// What x in `dtype` is packed in units of for products with weights of `format`: a power of two.
  float (*x_unit)(WeightFormat format, DType dtype);
  /// `steps` steps of 2 k of a packed block of quantized weights (for kNvfp4 a multiple of 8, from a group's
  /// beginning on) -> what matmul_tile reads for x in `dtype`: [steps][64][2] bfloat16 or [2 steps][64]
  /// floats, unscaled and divided by the unit of x.
  void (*widen_weights)(WeightFormat format, DType dtype, const void* packed, int64_t steps, void* widened);

  void (*conv_silu)(const ConvRun& run);
  void (*selective_scan)(const ScanRun& run);

  /// scores [pages, rows, kBlockColumns], pages page_stride floats apart: the first `visible` > 0 of each row
  /// become weights e^(scale * score - max), the others of the last page 0.
  void (*softmax_stretch)(float* scores, int64_t page_stride, int64_t rows, int64_t visible, float scale,
                          SoftmaxState* states);
  /// Adds what was seen of a later stretch of the sequence. sums, later_sums [rows, columns].
  void (*merge_stretches)(const SoftmaxState* later, const float* later_sums, int64_t rows, int64_t columns,
                          SoftmaxState* states, float* sums);

  /// out[0, n) of one row, n <= kTreeColumns, inputs offset by `column`.
  void (*tree_sum)(const TreeStep* steps, int64_t num_steps, int64_t column, int64_t n, float* out);
};

const RowKernels& row_kernels(Isa isa);

/// A task's use of matmul_tile.
class UseOfTiles {
 public:
  explicit UseOfTiles(const RowKernels& kernels) : kernels_(kernels) { kernels.begin_tiles(); }
  ~UseOfTiles() { kernels_.end_tiles(); }
  UseOfTiles(const UseOfTiles&) = delete;
  UseOfTiles& operator=(const UseOfTiles&) = delete;

 private:
  const RowKernels& kernels_;
};

extern const RowKernels kRowKernelsScalar;
extern const RowKernels kRowKernelsAvx2;
extern const RowKernels kRowKernelsAvx512;
extern const RowKernels kRowKernelsAvx512Bf16;
extern const RowKernels kRowKernelsAmx;

}  // namespace nemo::kernels
