// Nothing of gloo is needed here; see algorithm.h.
#pragma once
