/** Mean and standard deviation of ImageNet's pixels between 0 and 1, by which every model here has its input normalised. */
export const IMAGENET_MEAN = [0.485, 0.456, 0.406];
export const IMAGENET_STD = [0.229, 0.224, 0.225];
