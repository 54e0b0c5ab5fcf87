// libtorch's packages have ProcessGroupGloo.hpp without the headers of gloo that it includes. These
// declare, in our own words, what that header and we ourselves need, laid out as in the gloo inside
// libtorch 2.11. Nothing of gloo is needed here.
#pragma once
