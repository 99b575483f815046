#include <transformers/utils/io/torch_checkpoint.h>

#include <atomic>
#include <thread>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/io/allocation_watch.h"
#include "utils/io/file_builders.h"

namespace transformers {
namespace {

namespace p = testing::pickle;
using testing::AllocationWatch;
using testing::little_endian;
using testing::TemporaryFolder;
using testing::torch_zip;
using testing::write_file;
using testing::zip_bytes;
using testing::ZipRecord;

// Room for a million pointers, the most values that a pickle may hold.
constexpr size_t kAllowedBeyondFile = 8 << 20;

std::string floats(int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) {
    bytes += little_endian(static_cast<float>(i));
  }
  return bytes;
}

/// {"w": tensor} over a storage of 6 floats 0..5.
std::string one(int64_t offset, const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides) {
  const auto tensor = p::tensor(p::storage("FloatStorage", "0", 6), offset, sizes, strides);
  return torch_zip(p::whole(p::dict({p::text("w"), tensor})), {floats(6)});
}

class TorchCheckpointFileTest : public ::testing::Test {
 protected:
  TorchCheckpointFile open(const std::string& bytes) {
    write_file(path_, bytes);
    return TorchCheckpointFile(path_);
  }

  TemporaryFolder folder_;
  std::string path_ = folder_ / "pytorch_model.bin";
};

TEST_F(TorchCheckpointFileTest, ReadsDenseAndStridedTensors) {
  EXPECT_TENSORS_EQUAL(open(one(0, {2, 3}, {3, 1})).tensor("w"), torch::arange(6, torch::kFloat).view({2, 3}));
  EXPECT_TENSORS_EQUAL(open(one(1, {2, 2}, {1, 3})).tensor("w"), torch::tensor({{1.0F, 4.0F}, {2.0F, 5.0F}}));
  EXPECT_EQ(open(one(1, {2, 2}, {1, 3})).tensor("w").strides(), (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(open(one(5, {}, {})).tensor("w").item<float>(), 5);
  EXPECT_EQ(open(one(6, {0, 3}, {3, 1})).tensor("w").sizes(), (std::vector<int64_t>{0, 3}));
}

TEST_F(TorchCheckpointFileTest, ReadsTheFileInPlaceWhereItIsAligned) {
  // Records of a hand-made archive lie anywhere; both ways give the same values.
  for (size_t shift = 0; shift < 16; ++shift) {
    const auto tensor = p::tensor(p::storage("FloatStorage", "0", 6), 0, {6}, {1});
    const auto pickle = p::whole(p::dict({p::text("w" + std::string(shift, 'x')), tensor}));
    EXPECT_TENSORS_EQUAL(open(torch_zip(pickle, {floats(6)})).tensor("w" + std::string(shift, 'x')),
                         torch::arange(6, torch::kFloat));
  }
}

TEST_F(TorchCheckpointFileTest, SharedStoragesStayShared) {
  const auto storage = p::storage("FloatStorage", "0", 6);
  const auto pickle =
      p::whole(p::dict({p::text("a"), p::tensor(storage, 0, {3}, {1}), p::text("b"), p::tensor(storage, 2, {4}, {1})}));
  const auto file = open(torch_zip(pickle, {floats(6)}));
  const auto a = file.tensor("a");
  const auto b = file.tensor("b");
  EXPECT_TRUE(a.is_alias_of(b));
  a[2] = 70;
  EXPECT_EQ(b[0].item<float>(), 70);
  EXPECT_EQ(file.bytes(), 24);
  EXPECT_EQ(file.tensors()[1].bytes, 16);
}

TEST_F(TorchCheckpointFileTest, NestedDictionariesGiveDottedNamesAndPlainValuesAreReported) {
  const auto tensor = p::tensor(p::storage("FloatStorage", "0", 6), 0, {6}, {1});
  const auto ordered = p::global("collections", "OrderedDict") + ")R";
  const auto pickle = p::whole(p::dict({
      p::text("model"), ordered + "(" + p::text("layer.w") + tensor + "u",  //
      p::integer(7),    p::dict({p::text("m"), tensor}),                    //
      p::text("step"),  p::integer(3),
      p::text("note"),  p::text("x"),
      p::text("flag"),  "\x88",
      p::text("rate"),  std::string("G") + std::string(8, '\0'),
      p::text("none"),  "N",
      p::text("list"),  "](" + p::integer(1) + "e",
      p::text("size"),  p::global("torch", "Size") + p::tuple({p::tuple({})}) + "R",
      p::text("dtype"), p::global("torch", "float16"),
      p::text("long"),  std::string("\x8a\x09") + std::string(9, '\1')  //
  }));
  const auto file = open(torch_zip(pickle, {floats(6)}));
  ASSERT_EQ(file.tensors().size(), 2);
  EXPECT_EQ(file.tensors()[0].name, "model.layer.w");
  EXPECT_EQ(file.tensors()[1].name, "7.m");
  EXPECT_EQ(file.skipped(),
            (std::vector<std::string>{"step (integer)", "note (text)", "flag (bool)", "rate (number)", "none (None)",
                                      "list (list)", "size (tuple)", "dtype (name)", "long (number)"}));
  EXPECT_ERROR(file.tensor("step"), "holds no tensor step");
}

TEST_F(TorchCheckpointFileTest, AcceptsZip64SizesInTheirExtraField) {
  const auto tensor = p::tensor(p::storage("FloatStorage", "0", 6), 0, {6}, {1});
  const auto file = open(zip_bytes({{"a/data.pkl", p::whole(p::dict({p::text("w"), tensor}))},
                                    {.name = "a/data/0", .bytes = floats(6), .zip64 = true}}));
  EXPECT_TENSORS_EQUAL(file.tensor("w"), torch::arange(6, torch::kFloat));
  const auto wide =
      open(testing::zip64_bytes({{"a/data.pkl", p::whole(p::dict({p::text("w"), tensor}))}, {"a/data/0", floats(6)}}));
  EXPECT_TENSORS_EQUAL(wide.tensor("w"), torch::arange(6, torch::kFloat));
}

TEST_F(TorchCheckpointFileTest, ThreadsMayReadTogether) {
  const auto storage = p::storage("FloatStorage", "0", 6);
  const auto file = open(torch_zip(p::whole(p::dict({p::text("w"), p::tensor(storage, 0, {6}, {1})})), {floats(6)}));
  std::vector<std::thread> readers;
  std::atomic<int> right{0};
  for (int i = 0; i < 4; ++i) {
    readers.emplace_back([&] {
      for (int round = 0; round < 100; ++round) {
        right += file.tensor("w").sum().item<float>() == 15.0F ? 1 : 0;
      }
    });
  }
  for (auto& reader : readers) {
    reader.join();
  }
  EXPECT_EQ(right, 400);
}

/// A pickle of few bytes whose tensors have 64 sizes each, made again and again from the same arguments.
std::string many_wide_tensors() {
  std::string ones = "(";
  for (int i = 0; i < 64; ++i) {
    ones += "K\1";
  }
  // What the tensors are made of lies in a list, which is left out.
  auto items = p::text("parts") + "](" + p::storage("FloatStorage", "0", 6) + "q\1" + ones + "tq\2" +
               p::global("torch._utils", "_rebuild_tensor_v2") + "q\3" + p::global("collections", "OrderedDict") +
               ")Rq\4e";
  for (int i = 0; i < 200'000; ++i) {
    items += p::text(std::to_string(i)) + "h\3(h\1K" + std::string(1, '\0') + "h\2h\2\x89h\4tR";
  }
  return p::whole("}(" + items + "u");
}

/// A dictionary that names one tensor very often, at a hundred bytes a name.
std::string many_names_of_one_tensor() {
  std::string items = p::text("w") + p::tensor(p::storage("FloatStorage", "0", 6), 0, {6}, {1}) + "q\1";
  for (int i = 0; i < 400'000; ++i) {
    items += p::text(std::string(60, 'n') + std::to_string(i)) + "h\1";
  }
  return p::whole("}(" + items + "u");
}

TEST_F(TorchCheckpointFileTest, AShortPickleCannotAskForMuchMemory) {
  constexpr size_t kMost = 300 << 20;
  for (const auto& pickle : {many_wide_tensors(), many_names_of_one_tensor()}) {
    write_file(path_, torch_zip(pickle, {floats(6)}));
    const AllocationWatch watch;
    EXPECT_ERROR(TorchCheckpointFile{path_}, "pytorch_model.bin", "refused pickle");
    EXPECT_LT(watch.total(), kMost);
  }
}

struct BadFile {
  const char* what;
  std::string bytes;
  std::string fragment;
};

class RefusedTorchFileTest : public TorchCheckpointFileTest, public ::testing::WithParamInterface<BadFile> {};

TEST_P(RefusedTorchFileTest, IsOneErrorThatNamesTheFile) {
  write_file(path_, GetParam().bytes);
  const AllocationWatch watch;
  EXPECT_ERROR(
      {
        const TorchCheckpointFile file(path_);
        for (const auto& info : file.tensors()) {
          file.tensor(info.name);
        }
      },
      "pytorch_model.bin: ", GetParam().fragment);
  EXPECT_LE(watch.largest(), GetParam().bytes.size() + kAllowedBeyondFile);
}

constexpr auto name_of = [](const auto& info) { return info.param.what; };

/// A file whose pickle is `value`, whatever it is.
std::string value(const std::string& value) { return torch_zip(p::whole(value), {floats(6)}); }

std::string tensor_with(const std::vector<std::string>& arguments) {
  return value(p::dict({p::text("w"), p::global("torch._utils", "_rebuild_tensor_v2") + p::tuple(arguments) + "R"}));
}

const std::string kStorage = p::storage("FloatStorage", "0", 6);
const std::string kSix = p::tuple({p::integer(6)}), kOne = p::tuple({p::integer(1)});

std::string nested_dicts(int depth) {
  auto dict = p::dict({});
  for (int i = 0; i < depth; ++i) {
    dict = p::dict({p::text("d"), dict});
  }
  return dict;
}

INSTANTIATE_TEST_SUITE_P(
    Pickle, RefusedTorchFileTest,
    ::testing::Values(
        BadFile{"OsSystem", value(p::global("os", "system") + p::tuple({p::text("id")}) + "R"),
                "refused pickle at byte 13: it names the Python object os system, which is not needed for weights; "
                "safetensors files have no such risk"},
        BadFile{"BuiltinsEval", value(p::global("builtins", "eval")), "it names the Python object builtins eval"},
        BadFile{"TorchLoad", value(p::global("torch", "load")), "it names the Python object torch load"},
        BadFile{"ControlCharactersInName", value(p::global("o\x1b[2Js", "x")), "o\\x1b[2Js x"},
        BadFile{"CallsDtype", value(p::global("torch", "float16") + ")R"), "it calls torch float16"},
        BadFile{"CallsStorage", value(p::global("torch", "FloatStorage") + ")R"), "it calls torch FloatStorage"},
        BadFile{"CallsText", value(p::text("x") + ")R"), "it calls what is no known function"},
        BadFile{"CallWithoutTuple", value(p::global("torch", "Size") + "NR"), "a call has no argument tuple"},
        BadFile{"BuildsList", value("]}b"), "it builds what is no dictionary"},
        BadFile{"BuildStateIsTuple", value("})b"), "the state of an object is no dictionary"},
        BadFile{"NewObject", value(p::global("torch", "Size") + ")\x81"), "it uses the opcode 129"},
        BadFile{"OldInstance", value("(ios\nsystem\n"), "it uses the opcode 105"},
        BadFile{"StackGlobal", value(p::text("os") + p::text("system") + "\x93"), "it uses the opcode 147"},
        BadFile{"OrderedDictWithArguments", value(p::global("collections", "OrderedDict") + p::tuple({"]"}) + "R"),
                "an OrderedDict has arguments"},
        BadFile{"MemoNeverWritten", value("h\5"), "it reads a memo entry that was never written"},
        BadFile{"LongMemoNeverWritten", value("j\xff\xff\xff\xff"), "it reads a memo entry that was never written"},
        BadFile{"EmptyStack", value("0"), "it uses the opcode 48"},
        BadFile{"AppendToNothing", value("a"), "empty stack"}, BadFile{"PutFromNothing", value("q\1"), "empty stack"},
        BadFile{"TakesAcrossMark", value("N(\x85"), "empty stack"}, BadFile{"NoMark", value("t"), "a mark is missing"},
        BadFile{"OddItems", value("}(Nu"), "a dictionary key has no value"},
        BadFile{"AppendsToDict", value("}Na"), "it appends to what is no list"},
        BadFile{"SetsItemOfList", value("]NNs"), "it sets an item of what is no dictionary"},
        BadFile{"TwoValues", value("NN"), "it does not end with one value"},
        BadFile{"OpenMark", value("N("), "one value"},
        BadFile{"NoStop", torch_zip("\x80\x02N"), "a length reaches past its end"},
        BadFile{"Empty", torch_zip(""), "a length reaches past its end"},
        BadFile{"ProtocolFour", torch_zip("\x80\x04N."), "does not begin as a pickle of protocol 2"},
        BadFile{"ProtocolZero", torch_zip("(dp0\n."), "does not begin as a pickle of protocol 2"},
        BadFile{"TextPastTheEnd", value("X\xff\xff\xff\x7f"), "a length reaches past its end"},
        BadFile{"TextOfFourGigabytes", value("X\xff\xff\xff\xff"), "a length reaches past its end"},
        BadFile{"IntegerPastTheEnd", value("\x8a\xff"), "a length reaches past its end"},
        BadFile{"NameWithoutEnd", value("cos"), "a line does not end"},
        BadFile{"RootIsList", value("]"), "expected a pickled dictionary of tensors, found a list"},
        BadFile{"RootIsTensor", value(p::tensor(kStorage, 0, {6}, {1})), "found a tensor"},
        BadFile{"KeyIsTuple", value(p::dict({")", "N"})), "a dictionary key is a tuple, expected a text"},
        BadFile{"SameNameTwice", value(p::dict({p::text("w"), "N", p::text("w"), "N"})), "two entries are called w"},
        BadFile{"SameDottedName", value(p::dict({p::text("a.w"), "N", p::text("a"), p::dict({p::text("w"), "N"})})),
                "two entries are called a.w"},
        BadFile{"DictInItself", value("}q\1" + p::text("x") + "h\1s"), "the dictionary x. occurs in it twice"},
        BadFile{"DictTwice", value("}" + p::text("a") + "}q\1s" + p::text("b") + "h\1s"), "b. occurs in it twice"},
        BadFile{"DeepDicts", value(nested_dicts(65)), "dictionaries are nested deeper than 64"},
        BadFile{"LongName", value(p::dict({p::text(std::string(513, 'x')), "N"})), "a name is longer than 512 bytes"},
        BadFile{"MillionValues", value(std::string(1'000'001, 'N')), "it holds more than a million values"},
        BadFile{"MillionMarks", value(std::string(1'000'001, '(')), "it holds more than a million values"}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Tensor, RefusedTorchFileTest,
    ::testing::Values(
        BadFile{"StrideOutside", one(0, {2, 3}, {4, 1}), "a tensor reaches outside its storage"},
        BadFile{"OffsetOutside", one(1, {6}, {1}), "a tensor reaches outside its storage"},
        BadFile{"OffsetFarOutside", one(INT64_MAX, {1}, {1}), "a tensor reaches outside its storage"},
        BadFile{"EmptyFarOutside", one(7, {0}, {1}), "a tensor reaches outside its storage"},
        BadFile{"NegativeOffset", one(-1, {1}, {1}), "a tensor reaches outside its storage"},
        BadFile{"SizesOverStorage", one(0, {200, 3}, {3, 1}), "a tensor reaches outside its storage"},
        BadFile{"ExtentOverflows", one(0, {3, 3}, {INT64_MAX, 1}), "a tensor reaches outside its storage"},
        BadFile{"SizeOverflows", one(0, {INT64_MAX, 4}, {0, 0}), "the size of a tensor overflows"},
        BadFile{"NegativeSize", one(0, {-1}, {1}), "a size or stride is no integer >= 0"},
        BadFile{"NegativeStride", one(5, {6}, {-1}), "a size or stride is no integer >= 0"},
        BadFile{"ExpandedToGigabytes", one(0, {1 << 30}, {0}), "a tensor has more elements than its storage"},
        BadFile{"FewerStridesThanSizes", one(0, {2, 3}, {1}), "a tensor has not as many strides as sizes"},
        BadFile{"SixtyFiveDimensions", one(0, std::vector<int64_t>(65, 1), std::vector<int64_t>(65, 1)),
                "at most 64 integers"},
        BadFile{"FewArguments", tensor_with({kStorage, p::integer(0), kSix, kOne}), "the wrong number of arguments"},
        BadFile{"StorageIsText", tensor_with({p::text("0"), p::integer(0), kSix, kOne, "\x89", "N"}),
                "a tensor has no storage"},
        BadFile{"SizeIsText", tensor_with({kStorage, p::integer(0), p::text("6"), kOne, "\x89", "N"}),
                "a size is no tuple"},
        BadFile{"SizeHoldsFloat",
                tensor_with({kStorage, p::integer(0), p::tuple({std::string("G") + std::string(8, '\0')}), kOne, "\x89",
                             "N"}),
                "a size or stride is no integer"},
        BadFile{"LazyConjugate",
                tensor_with({kStorage, p::integer(0), kSix, kOne, "\x89", "N", p::dict({p::text("conj"), "\x88"})}),
                "resolve_conj()"},
        BadFile{"UntypedStorageWithoutDtype",
                tensor_with({p::tuple({p::text("storage"), p::global("torch.storage", "UntypedStorage"), p::text("0"),
                                       p::text("cpu"), p::integer(24)}) +
                                 "Q",
                             p::integer(0), kSix, kOne, "\x89", "N"}),
                "a tensor has no dtype"},
        BadFile{"ParameterOfNothing",
                value(p::global("torch._utils", "_rebuild_parameter") + p::tuple({"N", "\x88", "N"}) + "R"),
                "a Parameter is not made of a tensor"},
        BadFile{"PersistentIdIsText", value(p::text("0") + "Q"), "a persistent id is no tuple"},
        BadFile{"PersistentIdOfModule",
                value(p::tuple({p::text("module"), p::global("torch", "FloatStorage"), p::text("0"), p::text("cpu"),
                                p::integer(6)}) +
                      "Q"),
                "a persistent id does not describe a storage"},
        BadFile{"StorageOfDtype",
                value(p::tuple({p::text("storage"), p::global("torch", "float16"), p::text("0"), p::text("cpu"),
                                p::integer(6)}) +
                      "Q"),
                "a persistent id does not describe a storage"},
        BadFile{"StorageSizeNegative", value(p::storage("FloatStorage", "0", -1)), "the size of a storage is negative"},
        BadFile{"StorageSizeOverflows", value(p::storage("FloatStorage", "0", INT64_MAX)), "or overflows"},
        BadFile{"StorageLargerThanRecord",
                value(p::dict({p::text("w"), p::tensor(p::storage("FloatStorage", "0", 7), 0, {7}, {1})})),
                "the storage of tensor w should have 28 bytes, the record data/0 has 24"},
        BadFile{"StorageOfManyGigabytes",
                value(p::dict({p::text("w"),
                               p::tensor(p::storage("FloatStorage", "0", 60'000'000'000), 0, {60'000'000'000}, {1})})),
                "should have 240000000000 bytes, the record data/0 has 24"},
        BadFile{"RecordMissing",
                value(p::dict({p::text("w"), p::tensor(p::storage("FloatStorage", "../0", 6), 0, {6}, {1})})),
                "the record data/../0 has 0"},
        BadFile{"BoolByte",
                torch_zip(p::whole(p::dict({p::text("w"), p::tensor(p::storage("BoolStorage", "0", 2), 0, {2}, {1})})),
                          {std::string("\1\2")}),
                "tensor w: a bool must be 0 or 1, found 2 at byte 1"}),
    name_of);

/// A good archive whose records one may then spoil.
std::vector<ZipRecord> records() {
  return {{"a/data.pkl", p::whole(p::dict({p::text("w"), p::tensor(kStorage, 0, {6}, {1})}))}, {"a/data/0", floats(6)}};
}

template <class Change>
std::string changed(Change change) {
  auto all = records();
  change(all);
  return zip_bytes(all);
}

std::string with_bytes(size_t from_end, const std::string& bytes) {
  auto file = zip_bytes(records());
  return file.replace(file.size() - from_end, bytes.size(), bytes);
}

/// The directory points at a copy of the second record that lies within the first.
std::string with_overlap() {
  const ZipRecord inner{"a/inner", "1234"};
  const auto copy = zip_bytes({inner}).substr(0, 30 + inner.name.size() + inner.bytes.size());
  auto all = records();
  all.push_back({"a/outer", copy});
  all.push_back({.name = inner.name, .bytes = inner.bytes, .offset_error = -static_cast<int32_t>(copy.size())});
  return zip_bytes(all);
}

INSTANTIATE_TEST_SUITE_P(
    Archive, RefusedTorchFileTest,
    ::testing::Values(
        BadFile{"NoByte", "", "expected a zip archive with a pickle"},
        BadFile{"Safetensors", testing::safetensors_bytes("{}"), "expected a zip archive with a pickle"},
        BadFile{"Gguf", "GGUF" + std::string(100, 'x'), "this is a GGUF file"},
        BadFile{"HtmlPage", "<html>", "this is an HTML page"},
        BadFile{"GitLfsPointer", "version https://git-lfs.github.com/spec/v1\n", "this is a Git LFS pointer"},
        BadFile{"Legacy", "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", "re-save it with torch >= 1.6"},
        BadFile{"BarePickle", p::whole("}"), "this is a pickle"},
        BadFile{"TorchScript", changed([](auto& all) {
                  all.push_back({"a/constants.pkl", "x"});
                }),
                "TorchScript archive"},
        BadFile{"NoPickle", changed([](auto& all) { all[0].name = "a/other.pkl"; }), "data.pkl is missing"},
        BadFile{"NoFolder", changed([](auto& all) { all[0].name = "data.pkl"; }), "do not lie in one folder"},
        BadFile{"TwoFolders", changed([](auto& all) { all[0].name = "b/data.pkl"; }), "do not lie in one folder"},
        BadFile{"BigEndian", changed([](auto& all) {
                  all.push_back({"a/byteorder", "big"});
                }),
                "the byte order of the tensors must be little, found big"},
        BadFile{"Compressed", changed([](auto& all) { all[1].method = 8; }), "record a/data/0 is compressed"},
        BadFile{"Encrypted", changed([](auto& all) { all[1].flags = 1; }), "record a/data/0 is encrypted"},
        BadFile{"NameTwice", changed([](auto& all) { all.push_back(all[1]); }), "two records are called a/data/0"},
        BadFile{"OtherNameAtItsPlace", changed([](auto& all) { all[1].directory_name = "a/data/1"; }),
                "record a/data/1 is described differently"},
        BadFile{"OtherSizeAtItsPlace", changed([](auto& all) { all[1].directory_size_error = -4; }),
                "record a/data/0 is described differently"},
        BadFile{"LargerThanTheFile", changed([](auto& all) { all[1].directory_size_error = 1 << 30; }),
                "record a/data/0 is described differently"},
        BadFile{"OtherZip64Size", changed([](auto& all) {
                  all[1].zip64 = true;
                  all[1].directory_size_error = 8;
                }),
                "record a/data/0 is described differently"},
        BadFile{"OffsetOfAnother", changed([](auto& all) { all[1].offset_error = -1; }),
                "is not where the directory says"},
        BadFile{"Overlap", with_overlap(), "two of its records overlap"},
        BadFile{"OffsetPastTheEnd", changed([](auto& all) { all[1].offset_error = 1 << 30; }), "lies past the end"},
        BadFile{"FewerEntriesThanCounted", with_bytes(14, std::string("\3\0\3\0", 4)), "it ends within a record"},
        BadFile{"MoreEntriesThanCounted", with_bytes(14, std::string("\1\0\1\0", 4)), "holds more than it counts"},
        BadFile{"SeveralDisks", with_bytes(18, std::string("\1\0", 2)), "it spans several files"},
        BadFile{"DirectoryElsewhere", with_bytes(6, std::string("\1\0\0\0", 4)), "the directory is not where"},
        BadFile{"FullFieldsWithoutZip64", with_bytes(6, "\xff\xff\xff\xff"), "the directory is not where"},
        BadFile{"Zip64CountsDisagree", testing::zip64_bytes(records(), 1), "its two end records disagree"},
        BadFile{"Zip64EndElsewhere",
                testing::zip64_bytes(records()).replace(testing::zip64_bytes(records()).size() - 34, 1, "\1"),
                "the zip64 end record"}),
    name_of);

TEST_F(TorchCheckpointFileTest, RefusesEveryTruncation) {
  const auto whole = zip_bytes(records());
  for (size_t size = 0; size < whole.size(); ++size) {
    write_file(path_, whole.substr(0, size));
    EXPECT_ERROR(TorchCheckpointFile{path_}, "pytorch_model.bin: ") << "cut to " << size << " bytes";
  }
}

TEST_F(TorchCheckpointFileTest, TakesNoLongerThanTheFileForValuesUsedOverAndOver) {
  // A long tuple as the argument of many calls: copied each time, this would take minutes.
  std::string pickle = "((";
  for (int i = 0; i < 200'000; ++i) {
    pickle += "N";
  }
  pickle += "tq\1(";
  for (int i = 0; i < 200'000; ++i) {
    pickle +=
        "c"
        "torch\nSize\nh\1R";
  }
  EXPECT_ERROR(open(torch_zip(p::whole(pickle + "tt"))), "found a tuple");
}

}  // namespace
}  // namespace transformers
