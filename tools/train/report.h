// What a training leaves beside the model: metrics.json for programs, MODEL_CARD.md for people. Pure
// functions.
#pragma once

#include <string>

#include "tools/train/dataset.h"
#include "tools/train/trainer.h"

namespace vedette {

// `date` (YYYY-MM-DD) and `sources` (where the data comes from) are printed as given.
struct ReportContext {
  std::string date;
  std::string sources;
};

std::string metrics_json(const Dataset& data, const TrainOptions& options, const Trained& trained,
                         const ReportContext& context);
std::string model_card(const Dataset& data, const TrainOptions& options, const Trained& trained,
                       const ReportContext& context);

}  // namespace vedette
