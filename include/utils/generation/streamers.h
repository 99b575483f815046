#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>

#include <functional>
#include <memory>
#include <string_view>

namespace TRANSFORMERS_API transformers {

class StreamingDecoder;
class Tokenizer;

/// Receives tokens while they are generated. Mirrors HF's `BaseStreamer` (generation/streamers.py,
/// transformers 5.23.0).
class Streamer {
 public:
  virtual ~Streamer() = default;
  /// Receives first the prompt, int64 [rows, seq], then the tokens of each step, int64 [rows], all on the CPU.
  /// Returning false stops generation after these tokens. Exceptions pass through `generate` to the caller.
  virtual bool put(const at::Tensor& ids) = 0;
  /// Called at the end of generation, but not after an exception.
  virtual void end() = 0;
};

struct TextStreamerOptions {
  bool skip_prompt = false;
  bool skip_special_tokens = true;  // false in HF
};

/// Passes text on as it is produced. Each piece consists of whole UTF-8 characters, and all pieces together equal the
/// decoding of all new tokens at once. (HF's class holds a piece back until a space follows.) Works for one row.
class TextStreamer : public Streamer {
 public:
  /// on_text: receives a piece of text, which is never empty; returning false stops generation.
  TextStreamer(const std::shared_ptr<const Tokenizer>& tokenizer, std::function<bool(std::string_view)> on_text,
               TextStreamerOptions options = {});
  ~TextStreamer() override;
  bool put(const at::Tensor& ids) override;
  void end() override;

 private:
  bool hand_on(std::string_view text);

  std::unique_ptr<StreamingDecoder> decoder_;
  std::function<bool(std::string_view)> on_text_;
  bool skips_next_;  // the next tokens are a prompt that is not wanted
  bool goes_on_ = true;
};

}  // namespace transformers
