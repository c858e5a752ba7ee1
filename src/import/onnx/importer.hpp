// ModelProto -> Graph: names become values, model-local functions are inlined, subgraphs become blocks with explicit
// inputs. What an operator makes of a node is in its file in src/ops.
#pragma once

#include "import/import.hpp"
#include "import/onnx/tensors.hpp"

namespace tenfold::onnx {

class ModelProto;

/// Fills graph, producer, metadata, problems and warnings of `result`. Takes large tensors out of `model`.
/// A problem of one node does not stop the others; nodes that depend on it are passed over in silence.
void import_model(ModelProto& model, TensorReader& tensors, const ImportOptions& options, ImportedModel& result);

}  // namespace tenfold::onnx
