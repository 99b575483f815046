#include <torch/torch.h>
#include <transformers/utils/distributed/container_utils.h>

#include "cuda/skip_without_cuda.h"
#include "support/tensor_assertions.h"
#include "support/warning_recorder.h"

namespace transformers {
namespace {

using Kind = Value::Kind;

struct Batch {
  at::Tensor ids{};
  std::vector<at::Tensor> states{};
  std::optional<double> scale{};
  std::string label{};
  int not_named = 0;
};
template <typename Visit>
void visit_fields(Batch& batch, Visit&& visit) {
  visit("ids", batch.ids);
  visit("states", batch.states);
  visit("scale", batch.scale);
  visit("label", batch.label);
}

struct Pair {
  Batch first{}, second{};
};
template <typename Visit>
void visit_fields(Pair& pair, Visit&& visit) {
  visit("first", pair.first);
  visit("second", pair.second);
}

struct Other {
  int64_t number = 0;
};
template <typename Visit>
void visit_fields(Other& other, Visit&& visit) {
  visit("number", other.number);
}

const auto kDouble = [](const at::Tensor& tensor) { return tensor * 2; };

PackedSequence packed_sequence() {
  return torch::nn::utils::rnn::pack_padded_sequence(torch::ones({5, 2, 3}), torch::tensor({3, 5}),
                                                     /*batch_first=*/false, /*enforce_sorted=*/false);
}

Value deep_list(int depth, Value leaf) {
  auto value = std::move(leaf);
  for (int i = 0; i < depth; ++i) {
    value = Value::list({std::move(value)});
  }
  return value;
}

TEST(ValueTest, HoldsWhatItWasMadeOf) {
  const auto tensor = torch::ones({2});
  EXPECT_TRUE(Value().is_none());
  EXPECT_TRUE(Value(at::Tensor()).is_none());
  EXPECT_EQ(Value(true).kind(), Kind::kBool);
  EXPECT_EQ(Value(3).to<int64_t>(), 3);
  EXPECT_EQ(Value(3).to<double>(), 3.0);
  EXPECT_EQ(Value(2.5).to<float>(), 2.5f);
  EXPECT_EQ(Value("text").to<std::string>(), "text");
  EXPECT_TRUE(Value(tensor).to<at::Tensor>().is_same(tensor));
  EXPECT_FALSE(Value().to<at::Tensor>().defined());
  EXPECT_EQ(Value(std::vector<int>{1, 2}).to<std::vector<int64_t>>(), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(Value(std::optional<int>()).to<std::optional<int>>(), std::nullopt);
  EXPECT_EQ(Value::tuple({1, 2}).size(), 2u);
}

TEST(ValueTest, TakesPairsTuplesAndMaps) {
  const auto tensor = torch::ones({2});
  const Value pair(std::pair(tensor, 3)), tuple(std::tuple(1, "two", 3.0));
  EXPECT_EQ(pair.kind(), Kind::kTuple);
  EXPECT_TRUE(pair[0].to<at::Tensor>().is_same(tensor));
  EXPECT_EQ((tuple.to<std::tuple<int, std::string, double>>()), (std::tuple(1, std::string("two"), 3.0)));
  EXPECT_ERROR((tuple.to<std::pair<int, int>>()), "tuple of 2", "tuple");
  const std::map<std::string, int> map{{"a", 1}, {"b", 2}};
  EXPECT_EQ(Value(map).kind(), Kind::kMap);
  EXPECT_EQ(Value(map).at("b").to<int>(), 2);
  EXPECT_EQ((Value(map).to<std::map<std::string, int>>()), map);
  EXPECT_ERROR((Value(1).to<std::map<std::string, int>>()), "map", "int");
  const std::unordered_map<std::string, at::Tensor> tensors{{"x", tensor}};
  EXPECT_TRUE(Value(tensors).at("x").to<at::Tensor>().is_same(tensor));
  EXPECT_TRUE(recursive_to(Value(std::pair(tensor, tensors)), torch::kMeta)[1].at("x").to<at::Tensor>().is_meta());
}

TEST(ValueTest, NamesBothKindsWhenTheyDiffer) {
  EXPECT_ERROR(Value("text").to<at::Tensor>(), "tensor", "string");
  EXPECT_ERROR(Value(1).to<bool>(), "bool", "int");
  EXPECT_ERROR(Value(1).items(), "container", "int");
  EXPECT_ERROR(Value(300).to<int8_t>(), "300");
  EXPECT_ERROR(Value::list({1})[1], "index 1", "list of 1");
  EXPECT_ERROR(Value::map({{"a", 1}}).at("b"), "no key 'b'");
  EXPECT_ERROR(Value(Other{}).to<Batch>(), "Batch", "Other");
  EXPECT_ERROR(Value::list({}).to<Other>(), "struct", "list");
}

TEST(ValueTest, SetsDropDuplicatesAndKeepTheirOrder) {
  const auto tensor = torch::ones({1});
  const auto set = Value::set({"b", tensor, 1, tensor, "a", 1, torch::ones({1})});
  ASSERT_EQ(set.size(), 5u);
  EXPECT_EQ(set[0].to<std::string>(), "b");
  EXPECT_TRUE(set[1].is(tensor));
  EXPECT_EQ(set[3].to<std::string>(), "a");
  EXPECT_ERROR(Value::set({Value::list({})}), "a member of a set", "list");
}

TEST(ValueTest, MapsKeepTheirOrderAndHoldAKeyOnce) {
  const auto map = Value::map({{"z", 1}, {2, "two"}, {"a", Value()}});
  ASSERT_EQ(map.size(), 3u);
  EXPECT_EQ(map.items()[0].to<std::string>(), "z");
  EXPECT_EQ(map.items()[4].to<std::string>(), "a");
  EXPECT_EQ(map.at(2).to<std::string>(), "two");
  EXPECT_ERROR(Value::map({{"a", 1}, {"a", 2}}), "each key once", "'a'");
}

TEST(ValueTest, StructsComeBackWithTheFieldsTheyDoNotName) {
  const Batch batch{.ids = torch::ones({2}), .states = {torch::zeros({1})}, .scale = 0.5, .label = "x", .not_named = 7};
  const auto value = Value(batch);
  EXPECT_EQ(value.size(), 4u);
  EXPECT_EQ(value.at("label").to<std::string>(), "x");
  const auto back = value.to<Batch>();
  EXPECT_TRUE(back.ids.is_same(batch.ids));
  EXPECT_TRUE(back.states.at(0).is_same(batch.states[0]));
  EXPECT_EQ(back.scale, 0.5);
  EXPECT_EQ(back.not_named, 7);
}

TEST(ValueTest, DepthIsBoundedByMemoryOnly) {
  constexpr int kDepth = 100'000;
  const auto tensor = torch::ones({1});
  {
    const auto deep = deep_list(kDepth, tensor);
    const auto doubled = apply_to_tensors(kDouble, deep);
    EXPECT_EQ(tensors_in(doubled).at(0).item<float>(), 2);
    EXPECT_TRUE(tensors_in(recursive_to(deep, at::kMeta)).at(0).is_meta());
    EXPECT_EQ(cast_forward_inputs(at::kHalf, {deep}).args.at(0).kind(), Kind::kList);
  }
  EXPECT_EQ(tensor.use_count(), 1u);  // all is gone
}

TEST(PackKwargsTest, PutsKeywordsBehindPositionalArguments) {
  const auto packed = pack_kwargs({1, 2}, {{"a", 3}, {"b", 4}});
  EXPECT_EQ(packed.kwarg_keys, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(Value(packed.flat_args).to<std::vector<int>>(), (std::vector<int>{1, 2, 3, 4}));
  const auto unpacked = unpack_kwargs(packed.flat_args, packed.kwarg_keys);
  EXPECT_EQ(Value(unpacked.args).to<std::vector<int>>(), (std::vector<int>{1, 2}));
  ASSERT_EQ(unpacked.kwargs.size(), 2u);
  EXPECT_EQ(unpacked.kwargs[1].first, "b");
  EXPECT_EQ(unpacked.kwargs[1].second.to<int>(), 4);
}

TEST(PackKwargsTest, WorksWithoutKeywordsAndWithoutPositionalArguments) {
  EXPECT_EQ(unpack_kwargs({1, 2}, {}).args.size(), 2u);
  EXPECT_TRUE(unpack_kwargs({1, 2}, {}).kwargs.empty());
  EXPECT_TRUE(unpack_kwargs({1}, {"a"}).args.empty());
  EXPECT_TRUE(pack_kwargs({}).flat_args.empty());
}

TEST(PackKwargsTest, RefusesTooManyAndDoubleKeys) {
  EXPECT_ERROR(unpack_kwargs({1}, {"a", "b"}), "2 keywords", "1 values");
  EXPECT_ERROR(unpack_kwargs({1, 2}, {"a", "a"}), "'a'", "twice");
  EXPECT_ERROR(pack_kwargs({}, {{"a", 1}, {"a", 2}}), "'a'", "twice");
}

// The nested data of test_apply_to_tensors in torch's test/distributed/fsdp/test_utils.py.
TEST(ApplyToTensorsTest, ReachesEveryTensorAndKeepsKindsOrderAndKeys) {
  int64_t expected = 0;
  const auto tensor = [&](std::vector<int64_t> shape) {
    auto made = torch::rand(shape);
    expected += made.numel();
    return made;
  };
  const auto data = Value::list({
      Value::set({"x", tensor({2, 3}), tensor({4, 5, 6})}),
      Value::map({{"key1", tensor({1})}, {"key2", Value::map({{1, tensor({2, 3})}})}, {"key3", 3}}),
      Value::tuple({std::vector<int>{1}, tensor({7, 8}), 1, Value::list({tensor({3})}), Value::set({1, 2})}),
      Value::map({{"k", "value"}}),
      Value(Batch{.ids = tensor({4}), .states = {tensor({5}), tensor({6})}}),
  });
  int64_t total = 0;
  const auto result = apply_to_tensors(
      [&](const at::Tensor& found) {
        total += found.numel();
        return found;
      },
      data);
  EXPECT_EQ(total, expected);
  ASSERT_EQ(result.size(), data.size());
  for (size_t i = 0; i < data.size(); ++i) {
    EXPECT_EQ(result[i].kind(), data[i].kind());
    ASSERT_EQ(result[i].items().size(), data[i].items().size());
  }
  EXPECT_EQ(result[1].items()[2].to<std::string>(), "key2");
  EXPECT_EQ(result[2][3].kind(), Kind::kList);
}

TEST(ApplyToTensorsTest, ReplacesTensorsByWhateverTheFunctionGives) {
  const auto shapes = apply_to_tensors([](const at::Tensor& tensor) { return Value(tensor.sizes().vec()); },
                                       Value::list({torch::ones({2, 3}), "text"}));
  EXPECT_EQ(shapes[0].to<std::vector<int64_t>>(), (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(shapes[1].to<std::string>(), "text");
}

TEST(ApplyToTensorsTest, GivesPackedSequencesNewData) {
  const auto sequence = packed_sequence();
  const auto doubled = apply_to_tensors(kDouble, sequence).to<PackedSequence>();
  EXPECT_TENSORS_EQUAL(doubled.data(), sequence.data() * 2);
  EXPECT_TRUE(doubled.batch_sizes().is_same(sequence.batch_sizes()));
  EXPECT_TRUE(doubled.unsorted_indices().is_same(sequence.unsorted_indices()));
  EXPECT_EQ(sequence.data().sum().item<float>(), 8 * 3);
}

TEST(ApplyToTensorsTest, TakesFunctionsThatWriteIntoPackedSequences) {
  const auto zeroed = apply_to_tensors(
      [](const at::Tensor& tensor) {
        tensor.zero_();
        return Value();
      },
      packed_sequence());
  const auto [padded, lengths] = torch::nn::utils::rnn::pad_packed_sequence(zeroed.to<PackedSequence>());
  EXPECT_EQ(padded.sum().item<float>(), 0);
}

TEST(ApplyToTensorsTest, WalksStructsInStructs) {
  const Pair pair{.first = {.ids = torch::ones({2})}, .second = {.states = {torch::ones({1})}}};
  const auto doubled = apply_to_tensors(kDouble, pair).to<Pair>();
  EXPECT_TENSORS_EQUAL(doubled.first.ids, torch::full({2}, 2.0));
  EXPECT_TENSORS_EQUAL(doubled.second.states.at(0), torch::full({1}, 2.0));
  EXPECT_FALSE(doubled.second.ids.defined());
}

TEST(CastForwardInputsTest, CastsFloatingTensorsOnly) {
  const auto cast = cast_forward_inputs(at::kBFloat16, {torch::ones({2}), torch::ones({2}, at::kLong)},
                                        {{"mask", torch::ones({2}, at::kBool)}, {"x", torch::ones({1}, at::kDouble)}});
  EXPECT_EQ(cast.args[0].to<at::Tensor>().scalar_type(), at::kBFloat16);
  EXPECT_EQ(cast.args[1].to<at::Tensor>().scalar_type(), at::kLong);
  EXPECT_EQ(cast.kwargs[0].second.to<at::Tensor>().scalar_type(), at::kBool);
  EXPECT_EQ(cast.kwargs[1].second.to<at::Tensor>().scalar_type(), at::kBFloat16);
}

TEST(CastForwardInputsTest, ChangesNothingWithoutADtypeOrWithTheTensorsOwn) {
  const auto tensor = torch::ones({2});
  EXPECT_TRUE(cast_forward_inputs(std::nullopt, {tensor}).args[0].is(tensor));
  EXPECT_TRUE(cast_forward_inputs(at::kFloat, {tensor}).args[0].is(tensor));
}

TEST(CastForwardInputsTest, RespectsRequiresGrad) {
  const auto leaf = torch::ones({2}, torch::requires_grad());
  EXPECT_TRUE(cast_forward_inputs(at::kHalf, {leaf}).args[0].to<at::Tensor>().requires_grad());
}

TEST(RecursiveToTest, MovesTensorsInEveryKindOfContainer) {
  const auto tensor = torch::ones({2});
  const auto moved = recursive_to(Value::tuple({tensor, Value::list({}), Value::map({{tensor, Value::set({tensor})}}),
                                                Value(Batch{.ids = tensor}), packed_sequence(), "text"}),
                                  at::kMeta);
  for (const auto& found : tensors_in(moved)) {
    EXPECT_TRUE(found.is_meta());
  }
  EXPECT_EQ(tensors_in(moved).size(), 4u);  // keys of maps are not counted
  EXPECT_TRUE(moved[2].items()[0].to<at::Tensor>().is_meta());
  EXPECT_TRUE(moved[4].to<PackedSequence>().batch_sizes().is_cpu());
  EXPECT_TRUE(moved[4].to<PackedSequence>().sorted_indices().is_meta());
  EXPECT_EQ(moved[5].to<std::string>(), "text");
}

TEST(RecursiveToTest, LeavesTensorsThatAreThereAlready) {
  const auto tensor = torch::ones({2});
  EXPECT_TRUE(recursive_to(tensor, at::kCPU).is(tensor));
  EXPECT_TRUE(recursive_to(tensor, at::kCPU, /*use_side_stream_for_tensor_copies=*/true).is(tensor));
}

TEST(RecursiveToTest, CopiesToCudaOnASideStream) {
  SKIP_WITHOUT_CUDA();
  const auto tensor = torch::rand({1000, 1000}).pin_memory();
  const auto moved = recursive_to(tensor, at::kCUDA, /*use_side_stream_for_tensor_copies=*/true).to<at::Tensor>();
  EXPECT_TENSORS_EQUAL((moved * 2).cpu(), tensor * 2);
}

TEST(ToKwargsTest, PadsTheShorterListByWhatWasMoved) {
  const auto tensor = torch::ones({2});
  const auto both = to_kwargs({tensor}, {{"x", tensor}}, at::kMeta);
  ASSERT_EQ(both.inputs.size(), 1u);
  ASSERT_EQ(both.kwargs.size(), 1u);
  EXPECT_TRUE(both.kwargs[0][0].second.to<at::Tensor>().is_meta());

  const auto no_inputs = to_kwargs({}, {{"x", tensor}}, at::kMeta);
  ASSERT_EQ(no_inputs.inputs.size(), 1u);
  EXPECT_TRUE(no_inputs.inputs[0].empty());

  const auto no_kwargs = to_kwargs({tensor, tensor, tensor}, {}, at::kMeta);
  EXPECT_EQ(no_kwargs.inputs.size(), 1u);
  EXPECT_EQ(no_kwargs.inputs[0].size(), 3u);
  ASSERT_EQ(no_kwargs.kwargs.size(), 1u);
  EXPECT_TRUE(no_kwargs.kwargs[0].empty());

  EXPECT_TRUE(to_kwargs({}, {}, at::kMeta).inputs.empty());
}

TEST(PAssertTest, ThrowsAndSaysSoBefore) {
  testing::WarningRecorder warnings;
  p_assert(true, "never said");
  EXPECT_TRUE(warnings.messages().empty());
  EXPECT_ERROR(p_assert(false, "the rule"), "the rule");
  EXPECT_TRUE(warnings.saw("the rule"));
  EXPECT_NO_THROW(p_assert(false, "only said", /*raise_assertion_error=*/false));
  EXPECT_TRUE(warnings.saw("only said"));
}

}  // namespace
}  // namespace transformers
