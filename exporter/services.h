// Who carries out, or knows, what clients of the socket ask for. Given to the exporter by main.cpp; all must
// outlive it.
#pragma once

namespace vedette {

class BaselineStore;
class Evacuator;
class Journal;
class LogRules;
class OperatorStore;

struct Services {
  OperatorStore* operator_store = nullptr;  // null: nothing can be said
  Evacuator* evacuator = nullptr;           // null: without Kubernetes
  Journal* journal = nullptr;               // null: none is kept, so there is no past
  BaselineStore* baselines = nullptr;       // null: nothing is exported or imported
  const LogRules* log_rules = nullptr;      // null: those that ship
};

}  // namespace vedette
